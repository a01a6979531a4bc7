import type pg from 'pg'
import { SOURCE } from './database.ts'

/** Hands out disjoint sets of random workspaces, until none are left. Then it begins anew. */
export class RandomIds {
  readonly #pool: Pick<pg.Pool, 'query'>
  readonly #workspaces: number
  #place = 0

  constructor(pool: Pick<pg.Pool, 'query'>, workspaces: number) {
    this.#pool = pool
    this.#workspaces = workspaces
  }

  /** The next ids, no more than there are workspaces. */
  async take(count: number): Promise<string[]> {
    const wanted = Math.min(count, this.#workspaces)
    if (this.#place + wanted > this.#workspaces) this.#place = 0
    const { rows } = await this.#pool.query<{ id: string }>(
      'SELECT id FROM shuffled WHERE place > $1 AND place <= $1 + $2',
      [this.#place, wanted],
    )
    this.#place += wanted
    return rows.map(row => row.id)
  }
}

/** Stores a mark of each workspace in a period that has closed already, so that a flush takes it. */
export async function storeDueMarks(
  pool: Pick<pg.Pool, 'query'>,
  ids: readonly string[],
  source = SOURCE,
): Promise<void> {
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT now() - interval '1 ms', unnest($1::uuid[]), $2`,
    [ids, source],
  )
}
