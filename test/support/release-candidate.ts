import { readFileSync } from 'node:fs'
import path from 'node:path'
import type pg from 'pg'
import type { TestDatabase } from './database.ts'

/*
 * What the first release candidate of 0.1.0 leaves in a database, and the flush of its workers. Its pg-boss is the same
 * as ours.
 */

const fileOf = (name: string) =>
  readFileSync(path.join(import.meta.dirname, '../schema/release-candidate', name), 'utf8')

/** Replaces our tables by those of the release candidate. The queues stay. */
export async function downgradeToReleaseCandidate({ pool }: TestDatabase): Promise<void> {
  await pool.query('DROP SCHEMA public CASCADE; CREATE SCHEMA public')
  await pool.query(fileOf('schema.sql'))
}

/** What the flush of the release candidate returns. */
export interface OldFlush {
  flushed: number
  workspaces: number
  updated: number
  unknown: number
  held: number
}

const FLUSH = fileOf('flush.sql')

/** Flushes as a worker of the release candidate does: one statement in a transaction. */
export async function flushAsReleaseCandidate(
  client: pg.Client | pg.PoolClient,
  { batchSize = 1_500 } = {},
): Promise<OldFlush> {
  await client.query('BEGIN')
  try {
    const { rows } = await client.query<OldFlush>(FLUSH, [batchSize])
    await client.query('COMMIT')
    const { flushed, workspaces, updated, unknown, held } = rows[0]!
    return { flushed, workspaces, updated, unknown, held }
  } catch (error) {
    await client.query('ROLLBACK')
    throw error
  }
}
