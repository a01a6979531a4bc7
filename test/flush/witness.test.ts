import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { restoreWitness } from '../../src/flush/witness.ts'
import { createTestDatabase } from '../support/database.ts'
import { untilBlocked } from '../support/locks.ts'
import { openTransaction } from '../support/transaction.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  assert.equal(await restoreWitness(pool), false)
  // A crash empties this table in the same way.
  await pool.query('TRUNCATE pending_usage_witness')
})

test('the witness tells only one of two callers at the same time that pending_usage was emptied', async () => {
  await using first = await openTransaction(database)
  assert.equal(await restoreWitness(first.client), true)
  const second = await database.connect()
  const asking = restoreWitness(second)
  assert.deepEqual(await untilBlocked(pool, second.processID), [first.client.processID])
  await first.client.query('COMMIT')
  assert.equal(await asking, false)
})

test('the witness tells again that pending_usage was emptied if the transaction of the first caller was rolled back', async () => {
  await using first = await openTransaction(database)
  assert.equal(await restoreWitness(first.client), true)
  await first.client.query('ROLLBACK')
  assert.equal(await restoreWitness(pool), true)
})
