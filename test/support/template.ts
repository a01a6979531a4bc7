import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { RUN_VARIABLE } from './settings.ts'

/** The name of this run of the tests. Others may use the same server at the same time. */
export const RUN = process.env[RUN_VARIABLE] ?? randomBytes(5).toString('hex')

/** The migrated database that others are cloned from. It belongs to this run only, so it can't be a stale one. */
export const TEMPLATE = `usage_${RUN}_template`

/** Creates the template, which `dropDatabasesOfRun` drops. */
export async function createTemplate(server: string): Promise<void> {
  await administer(server, `CREATE DATABASE ${pg.escapeIdentifier(TEMPLATE)} TEMPLATE template0`)
  await migrateDatabase(urlOf(server, TEMPLATE))
}

/** Migrates a database. */
export async function migrateDatabase(connectionString: string): Promise<void> {
  // Loaded only now, because it loads pg-boss, and most test files clone a database and migrate none.
  const { migrate } = await import('../../src/schema/migrate.ts')
  await migrate({ connectionString })
}

/** Creates a database with a name that no other has, and returns the name. */
export async function createDatabase(server: string, purpose: string, template: string): Promise<string> {
  const random = randomBytes(3).toString('hex')
  const name = `usage_${RUN}_${purpose.replaceAll(/\W+/g, '_').slice(0, 36)}_${random}`
  await administer(
    server,
    `CREATE DATABASE ${pg.escapeIdentifier(name)} TEMPLATE ${pg.escapeIdentifier(template)}`,
  )
  return name
}

/** Drops a database, whoever is connected. */
export async function dropDatabase(server: string, name: string): Promise<void> {
  await administer(server, `DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`)
}

/** Drops the template, and the databases that killed test files left behind. */
export async function dropDatabasesOfRun(server: string): Promise<void> {
  const rows = await administer(
    server,
    `SELECT datname FROM pg_database WHERE starts_with(datname, 'usage_${RUN}_')`,
  )
  for (const { datname } of rows) await dropDatabase(server, datname)
}

/** The connection string of another database on the same server. */
export function urlOf(server: string, database: string): string {
  const url = new URL(server)
  url.pathname = `/${database}`
  return url.href
}

/** Runs a statement on a server, on a connection of its own. */
export async function administer(server: string, statement: string): Promise<{ datname: string }[]> {
  const client = new pg.Client({ connectionString: server, application_name: 'workspace-usage tests' })
  await client.connect()
  try {
    return (await client.query(statement)).rows
  } finally {
    await client.end()
  }
}
