import assert from 'node:assert/strict'
import { test } from 'node:test'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const STORM_MS = 20_000

test('transactions that update the same few workspaces in ascending order never deadlock with flushes, and flushes wait for none of them', async () => {
  const database = await createTestDatabase()
  const { pool } = database
  const ids = await createWorkspaces(pool, 30)
  const deadlocks: string[] = []
  const ends = performance.now() + STORM_MS
  let transactions = 0
  const host = async () => {
    const client = await database.connect()
    while (performance.now() < ends) {
      try {
        await client.query('BEGIN')
        for (const id of ids.filter(() => Math.random() < 0.5))
          await client.query('UPDATE workspaces SET id = id WHERE id = $1', [id])
        await client.query('COMMIT')
        transactions++
      } catch (error) {
        deadlocks.push((error as { code: string }).code)
        await client.query('ROLLBACK')
      }
    }
  }
  const slowest = { ms: 0 }
  let flushes = 0
  // Each has a source of its own. Otherwise their marks could have the same key.
  const flusher = async (source: string) => {
    while (performance.now() < ends) {
      await storeClosedMarks(pool, ids, { agoMs: Math.random() * 100, source })
      const started = performance.now()
      await flush(pool)
      flushes++
      slowest.ms = Math.max(slowest.ms, performance.now() - started)
    }
  }
  await Promise.all([...Array.from({ length: 6 }, host), flusher('ssh'), flusher('vscode')])
  console.log(
    `${transactions} transactions of the host, ${flushes} flushes, the slowest ${Math.round(slowest.ms)} ms`,
  )
  assert.ok(transactions > 100 && flushes > 100)
  assert.deepEqual(deadlocks, [])
})
