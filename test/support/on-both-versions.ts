import { type TestContext, test } from 'node:test'
import { createEmptyDatabase, type TestDatabase } from './database.ts'
import { POSTGRES_15_MISSING, testServer15 } from './postgres-15.ts'

/** Defines a test twice: with an empty database of the common server, and with one of PostgreSQL 15. */
export function testOnBothVersions(
  name: string,
  body: (database: TestDatabase, t: TestContext) => Promise<unknown>,
): void {
  test(name, async t => {
    await body(await createEmptyDatabase(), t)
  })
  test(`on PostgreSQL 15, ${name}`, async t => {
    const on = await testServer15()
    if (on === null) return t.skip(POSTGRES_15_MISSING)
    await body(await createEmptyDatabase({ on }), t)
  })
}
