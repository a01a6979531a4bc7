import type pg from 'pg'
import type { HistoryLog } from './log.ts'
import type { Report } from './messages.ts'
import { Random } from './random.ts'
import { openPool, pause, reportError } from './surroundings.ts'
import { SOURCES, type Universe } from './universe.ts'

/** What a reader saw. */
export interface Sightings {
  /** Pairs of workspace and source that it looked for, because their marks had been acknowledged. */
  looked: number
  /** Those whose mark it did not see. */
  missed: number
  examples: string[]
}

/**
 * Reads the view of usage by source, over and over, and looks for the marks that had been acknowledged before. So a mark
 * that is lost is found even if a later one covers it up.
 */
export class Reader {
  readonly sightings: Sightings = { looked: 0, missed: 0, examples: [] }
  readonly #log: HistoryLog
  readonly #universe: Universe

  constructor(log: HistoryLog, universe: Universe) {
    this.#log = log
    this.#universe = universe
  }

  /** Reads until it shall end. */
  async run(connectionString: string, seed: number, report: Report, signal: AbortSignal): Promise<void> {
    const pool = openPool(connectionString, 'reader', 1)
    const random = new Random(seed + 2)
    while (!signal.aborted) {
      // A fault that hits the reader says nothing about marks.
      await this.#look(pool, this.#universe.inUse(200, Date.now(), random)).catch(error =>
        reportError(report, error),
      )
      await pause(300, signal)
    }
    await pool.end()
  }

  async #look(pool: pg.Pool, workspaces: number[]): Promise<void> {
    const log = this.#log
    const crashes = log.crashes.length
    const expected = workspaces
      .filter(workspace => !log.mayBeDeleted(workspace))
      .map(workspace => ({
        workspace,
        deleted: log.deleted[workspace]!,
        acknowledged: SOURCES.map((_, source) => log.acknowledged[log.pair(workspace, source)]!),
      }))
    const seen = await this.#read(pool, workspaces)
    if (log.crashes.length > crashes) return
    const lost = log.crashes.at(-1)?.to ?? Number.NEGATIVE_INFINITY
    for (const { workspace, deleted, acknowledged } of expected) {
      const uses = seen.get(this.#universe.ids[workspace]!)
      if (uses === undefined || log.mayBeDeleted(workspace) || log.deleted[workspace] !== deleted) continue
      for (const [source, at] of acknowledged.entries()) {
        if (at <= Math.max(deleted, lost)) continue
        this.sightings.looked++
        const used = uses[SOURCES[source]!]
        if (used === undefined || used < at) this.#miss(workspace, source, at, used)
      }
    }
  }

  /** The last use in ms by source, of those workspaces that exist, in one snapshot. */
  async #read(pool: pg.Pool, workspaces: number[]): Promise<Map<string, Record<string, number>>> {
    const { rows } = await pool.query<{ id: string; uses: Record<string, number> }>(
      `SELECT w.id, (
        SELECT coalesce(jsonb_object_agg(a.source, extract(epoch FROM a.last_used_at) * 1000), '{}')
        FROM workspace_activity_by_source a WHERE a.workspace_id = w.id
      ) AS uses
      FROM workspaces w WHERE w.id = ANY ($1)`,
      [workspaces.map(workspace => this.#universe.ids[workspace]!)],
    )
    return new Map(rows.map(({ id, uses }) => [id, uses]))
  }

  #miss(workspace: number, source: number, at: number, used: number | undefined): void {
    this.sightings.missed++
    if (this.sightings.examples.length >= 3) return
    const found = used === undefined ? 'never' : new Date(used).toISOString()
    this.sightings.examples.push(
      `not visible: ${this.#universe.ids[workspace]} by "${SOURCES[source]}", marked ${new Date(at).toISOString()}, is ${found}`,
    )
  }
}
