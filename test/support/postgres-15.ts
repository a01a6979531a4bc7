import type { TestContext } from 'node:test'
import { atEnd } from './at-end.ts'
import { createTestDatabase, type TestDatabase } from './database.ts'
import { POSTGRES_15_MISSING, startInstalledPostgres15 } from './installed-postgres-15.ts'
import { SERVER_15_VARIABLE } from './settings.ts'

export { POSTGRES_15_MISSING } from './installed-postgres-15.ts'

/** Runs a test's body with a migrated database of its own on PostgreSQL 15. Skips the test if that is not installed. */
export async function onPostgres15(
  t: TestContext,
  body: (database: TestDatabase) => Promise<unknown>,
): Promise<void> {
  const server = await testServer15()
  if (server === null) return t.skip(POSTGRES_15_MISSING)
  await body(await createTestDatabase({ on: server }))
}

let server: Promise<string | null> | undefined

/**
 * Connection string of a PostgreSQL 15 for this file's tests: the runner's, or one started for them. Null if it is not
 * installed.
 */
export function testServer15(): Promise<string | null> {
  server ??= Promise.resolve(process.env[SERVER_15_VARIABLE] || startOwn())
  return server
}

async function startOwn(): Promise<string | null> {
  const own = await startInstalledPostgres15()
  if (own === null) return null
  atEnd(() => own.stop())
  return own.connectionString
}
