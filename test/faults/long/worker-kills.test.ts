import { test } from 'node:test'
import { createTestDatabase } from '../../support/database.ts'
import { onPostgres15 } from '../../support/postgres-15.ts'
import { killWorkers } from '../killed-workers.ts'

test('a hundred worker processes that are killed at random moments lose no mark, flush none twice, and leave no connection', async t => {
  await killWorkers(t, await createTestDatabase(), 100)
})

test('thirty worker processes that are killed at random moments lose no mark on PostgreSQL 15', async t => {
  await onPostgres15(t, database => killWorkers(t, database, 30))
})
