import { test } from 'node:test'
import { createTestDatabase } from '../support/database.ts'
import { killWorkers } from './killed-workers.ts'

test('ten worker processes that are killed at random moments lose no mark, flush none twice, and leave no connection', async t => {
  await killWorkers(t, await createTestDatabase(), 10)
})
