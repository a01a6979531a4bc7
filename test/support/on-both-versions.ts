import { type TestContext, test } from 'node:test'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from './database.ts'
import { POSTGRES_15_MISSING, testServer15 } from './postgres-15.ts'

type Body = (database: TestDatabase, t: TestContext) => Promise<unknown>

/** Defines a test twice: with an empty database of the common server, and with one of PostgreSQL 15. */
export function testOnBothVersions(name: string, body: Body): void {
  testTwice(name, body, createEmptyDatabase)
}

/** Defines a test twice: with a migrated database of the common server, and with one of PostgreSQL 15. */
export function testOnMigrated(name: string, body: Body): void {
  testTwice(name, body, createTestDatabase)
}

function testTwice(
  name: string,
  body: Body,
  create: (options?: { on: string }) => Promise<TestDatabase>,
): void {
  test(name, async t => {
    await body(await create(), t)
  })
  test(`on PostgreSQL 15, ${name}`, async t => {
    const on = await testServer15()
    if (on === null) return t.skip(POSTGRES_15_MISSING)
    await body(await create({ on }), t)
  })
}
