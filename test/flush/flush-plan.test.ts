import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Queryable } from '../../src/database/connection.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const WORKSPACES = 20_000
const MARKED = 2_000

test('the flush has a good plan whatever statistics the planner has of pending_usage', async () => {
  await holdsThePlan(await createTestDatabase())
})

test('the flush has a good plan on PostgreSQL 15 as well', async t => {
  await onPostgres15(t, holdsThePlan)
})

async function holdsThePlan({ pool }: TestDatabase): Promise<void> {
  const ids = await createWorkspaces(pool, WORKSPACES)
  const marked = ids.filter((_, index) => index % (WORKSPACES / MARKED) === 0)
  await pool.query('VACUUM ANALYZE workspaces')

  const beliefs: Record<string, () => Promise<void>> = {
    'nothing, never having analyzed it': async () => {
      await storeClosedMarks(pool, marked)
    },
    'that it is empty': async () => {
      await pool.query('VACUUM ANALYZE pending_usage')
      await storeClosedMarks(pool, marked)
    },
    'that it stays empty, as after a flush and VACUUM': async () => {
      await storeClosedMarks(pool, marked)
      await pool.query('DELETE FROM pending_usage')
      await pool.query('VACUUM pending_usage')
      await storeClosedMarks(pool, marked)
    },
    'that all of it is open': async () => {
      await storeClosedMarks(pool, marked, { agoMs: -60_000 })
      await pool.query('ANALYZE pending_usage')
      await storeClosedMarks(pool, marked)
    },
    'the truth': async () => {
      await storeClosedMarks(pool, marked)
      await pool.query('ANALYZE pending_usage')
    },
  }
  for (const [belief, bringAbout] of Object.entries(beliefs)) {
    await pool.query('TRUNCATE pending_usage')
    await bringAbout()
    const { plan, rows } = await explainFlush(pool)
    const message = `believing ${belief}:\n${plan}`
    assert.equal(rows, MARKED, message)
    assert.doesNotMatch(plan, /(Hash|Merge) .*Join/, message)
    // A join with a single row does no harm: nothing is done again for each row.
    assert.doesNotMatch(plan, /loops=(?!1\b)/, message)
    assert.doesNotMatch(plan, /Seq Scan on workspaces/, message)
    assert.match(plan, /Index Scan (using|on) workspaces_pkey/, message)
    assert.match(plan, /Tid Scan on pending_usage/, message)
  }
}

/** Runs a flush with its statement under EXPLAIN ANALYZE, in a transaction that is rolled back. */
async function explainFlush(pool: TestDatabase['pool']): Promise<{ plan: string; rows: number }> {
  const client = await pool.connect()
  const lines: string[] = []
  const explaining: Queryable = {
    async query(text, values) {
      if (!text.includes('due AS')) return await client.query(text, values)
      const { rows } = await client.query(`EXPLAIN (ANALYZE, TIMING OFF, COSTS OFF) ${text}`, values)
      lines.push(...rows.map(row => row['QUERY PLAN'] as string))
      return {
        rows: [
          {
            counts: JSON.stringify({
              bySource: {},
              unmoved: [],
              exact: true,
              heldDue: false,
              awaitedDue: false,
              refusedDue: false,
              flood: null,
            }),
          },
        ],
      }
    },
  }
  try {
    await client.query('BEGIN')
    await flush(explaining, { batchSize: MARKED })
  } finally {
    await client.query('ROLLBACK')
    client.release()
  }
  const deleted = lines.find(line => line.includes('Tid Scan'))?.match(/rows=(\d+)/)
  return { plan: lines.join('\n'), rows: Number(deleted?.[1]) }
}
