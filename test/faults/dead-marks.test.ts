/** The same with millions of marks: long/dead-marks.test.ts. */

import { test } from 'node:test'
import { createTestDatabase } from '../support/database.ts'
import { onPostgres15 } from '../support/postgres-15.ts'
import { flushUnder, HOLDERS } from './dead-marks.ts'

const MARKS = 60_000

for (const [name, hold] of Object.entries(HOLDERS)) {
  test(`flushes and views stay quick and exact while ${name} keeps the dead marks`, async t => {
    await flushUnder(hold, MARKS, await createTestDatabase(), t)
  })

  test(`on PostgreSQL 15, flushes and views stay quick and exact while ${name} keeps the dead marks`, async t => {
    await onPostgres15(t, database => flushUnder(hold, MARKS, database, t))
  })
}
