import assert from 'node:assert/strict'
import type pg from 'pg'
import { until } from '../support/poll.ts'
import type { Load } from './load.ts'

/**
 * Waits until a loss of pending marks is told, and asserts that it is told once: by one row, and by one line of all
 * workers together.
 *
 * @returns From when on marks are complete, in milliseconds since 1970.
 */
export async function untilToldOnce(pool: pg.Pool, load: Load, reason: string): Promise<number> {
  await until('the loss is told', () => told(load) > 0, { timeoutMs: 90_000 })
  const [reset] = await assertTold(pool, load, 1)
  assert.equal(reset!.reason, reason)
  return Date.parse(reset!.noticed_at)
}

/** Asserts how often a loss was told: by rows of the database, and by lines of all workers together. */
export async function assertTold(pool: pg.Pool, load: Load, times: number) {
  const { rows } = await pool.query(
    `SELECT reason, to_json(noticed_at) #>> '{}' AS noticed_at FROM pending_usage_reset`,
  )
  assert.deepEqual([rows.length, told(load)], [times, times])
  return rows as { reason: string; noticed_at: string }[]
}

function told({ log }: Load): number {
  return log.find('pending_usage was emptied').length
}
