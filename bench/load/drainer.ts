/*
 * A drain in a process of its own, as a worker does it.
 */

import pg from 'pg'
import { drain } from '../../src/flush/drain.ts'
import { answer, started } from './parent.ts'

/** What is drained, and how. */
export interface DrainTask {
  connectionString: string
  /** Default: that of a flush. */
  batchSize?: number
  /** A statement that does it all, instead of ours. */
  statement?: string
}

/** What a drain took. */
export interface Drained {
  seconds: number
  flushed: number
  /** Seconds from the start to the end of each flush. */
  ends: number[]
}

const { connectionString, batchSize, statement } = JSON.parse(process.argv[2]!) as DrainTask
const pool = new pg.Pool({ connectionString, max: 1, application_name: 'drainer' })
await pool.query('SELECT')
await started()
const begun = performance.now()
const passed = () => (performance.now() - begun) / 1_000
const ends: number[] = []
const flushed =
  statement === undefined
    ? (
        await drain(pool, {
          timeoutSeconds: 600,
          ...(batchSize !== undefined && { batchSize }),
          onFlush: () => ends.push(passed()),
        })
      ).flushed
    : ((await pool.query(statement)).rowCount ?? 0)
const seconds = passed()
await pool.end()
answer({ seconds, flushed, ends } satisfies Drained)
