/** Set DEAD_MARKS to another number of marks to try. */

import { test } from 'node:test'
import { createTestDatabase } from '../../support/database.ts'
import { onPostgres15 } from '../../support/postgres-15.ts'
import { flushUnder, HOLDERS } from '../dead-marks.ts'

/** On a machine that does nothing else. */
const LIMIT_MS = 50

const MARKS = Number(process.env.DEAD_MARKS ?? 6_000_000)

for (const [name, hold] of Object.entries(HOLDERS)) {
  test(`flushes and views stay quick and exact while ${name} keeps millions of dead marks`, async t => {
    await flushUnder(hold, MARKS, await createTestDatabase(), t, LIMIT_MS)
  })

  test(`on PostgreSQL 15, flushes and views stay quick and exact while ${name} keeps a million dead marks`, async t => {
    await onPostgres15(t, database => flushUnder(hold, Math.ceil(MARKS / 6), database, t, LIMIT_MS))
  })
}
