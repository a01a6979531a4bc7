import pg from 'pg'
import { migrate } from '../../src/schema/migrate.ts'
import { createEmptyDatabase, type TestDatabase } from './database.ts'

/** The schema of our tables: a name that must be quoted. */
export const OWN_SCHEMA = `Our "usage" it's\\ $& 利用`

/** Decoys of our tables in a schema that a `search_path` may lead to. All are empty, and no statement of ours fits them. */
const DECOYS = [
  'pending_usage',
  'workspaces',
  'workspace_usage',
  'workspace_activity',
  'pending_usage_witness',
]

/**
 * A database with our tables in {@link OWN_SCHEMA}, decoys of them in the schema `decoys`, and a second installation in
 * `public`, with one workspace of its own.
 */
export async function createDatabaseWithSchemas(on?: string): Promise<TestDatabase> {
  const database = await createEmptyDatabase(on === undefined ? {} : { on })
  const { connectionString, pool } = database
  await migrate({ connectionString })
  await migrate({ connectionString, schema: OWN_SCHEMA })
  await pool.query(`CREATE SCHEMA decoys; GRANT USAGE ON SCHEMA decoys TO PUBLIC`)
  for (const name of DECOYS) {
    await pool.query(`CREATE TABLE decoys.${name} (decoy int); GRANT ALL ON decoys.${name} TO PUBLIC`)
  }
  await pool.query(`
    CREATE FUNCTION decoys.usage_period_end() RETURNS timestamptz LANGUAGE sql
    AS $$ SELECT timestamptz '2001-01-01' $$`)
  return database
}

/** The values of `search_path` that must not matter. */
export const PATHS = ["''", 'decoys', 'public', 'nowhere', 'decoys, public, pg_catalog']

/** Sets the path of a role in one database. */
export async function setPathOf(database: TestDatabase, role: string, path: string): Promise<void> {
  const on = `ALTER ROLE ${pg.escapeIdentifier(role)} IN DATABASE ${pg.escapeIdentifier(database.name)}`
  await database.pool.query(`${on} SET search_path = ${path}`)
}

/** A connection whose own statements find our tables: for what a test itself reads and writes. */
export async function ownClient(database: TestDatabase): Promise<pg.Client> {
  const client = await database.connect()
  await client.query(`SET search_path = ${pg.escapeIdentifier(OWN_SCHEMA)}`)
  return client
}
