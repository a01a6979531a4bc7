import { type TestContext, test } from 'node:test'
import { migrateDown } from '../../src/schema/migrate.ts'
import { createTestDatabase, type TestDatabase } from './database.ts'
import { onPostgres15 } from './postgres-15.ts'

/** Takes back the migration that dropped the check of a source, and later ones. */
export async function takeBackCheck(connectionString: string, schema?: string): Promise<void> {
  const options = schema === undefined ? { connectionString } : { connectionString, schema }
  while ((await migrateDown(options)) !== '0019_no_check_of_a_mark');
}

/** Defines a test twice: with a migrated database of the common server, and with one of PostgreSQL 15. */
export function testOnMigrated(name: string, body: (database: TestDatabase) => Promise<void>): void {
  test(name, async () => body(await createTestDatabase()))
  test(`on PostgreSQL 15, ${name}`, (t: TestContext) => onPostgres15(t, body))
}
