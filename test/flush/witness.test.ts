import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { noticeReset } from '../../src/flush/reset.ts'
import { createTestDatabase } from '../support/database.ts'
import { openTransaction } from '../support/transaction.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  assert.equal((await noticeReset(pool)) !== null, false)
  // A crash empties this table in the same way.
  await pool.query('TRUNCATE pending_usage_witness')
})

test('the witness tells only one of two callers at the same time that pending_usage was emptied', async () => {
  await using first = await openTransaction(database)
  assert.equal((await noticeReset(first.client)) !== null, true)
  const second = await database.connect()
  // It does not wait.
  assert.equal((await noticeReset(second)) !== null, false)
  await first.client.query('COMMIT')
  assert.equal((await noticeReset(second)) !== null, false)
})

test('the witness tells again that pending_usage was emptied if the transaction of the first caller was rolled back', async () => {
  await using first = await openTransaction(database)
  assert.equal((await noticeReset(first.client)) !== null, true)
  await first.client.query('ROLLBACK')
  assert.equal((await noticeReset(pool)) !== null, true)
})
