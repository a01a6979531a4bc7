import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { atEnd } from './at-end.ts'
import type { TestDatabase } from './database.ts'
import { heardPool } from './heard-pool.ts'
import { administer } from './template.ts'

/** A role that may log in, and may do nothing else until something is granted to it. */
export interface LoginRole {
  name: string
  /** The role's own pool on a database; ended at the file's end. */
  pool(database: TestDatabase): pg.Pool
  /** Connects the role to a database. */
  connectionString(database: TestDatabase): string
}

/**
 * Creates a role on a server, dropped at the file's end. Create it before the databases in which it gets
 * privileges: what was created first is dropped last, and a role with privileges can't be dropped.
 */
export async function createLoginRole(server: string, purpose: string): Promise<LoginRole> {
  const name = `usage ${purpose} "${randomBytes(4).toString('hex')}"`
  const password = randomBytes(9).toString('hex')
  await administer(server, `CREATE ROLE ${pg.escapeIdentifier(name)} LOGIN PASSWORD '${password}'`)
  atEnd(() => administer(server, `DROP ROLE ${pg.escapeIdentifier(name)}`))
  const connectionString = (database: TestDatabase) => {
    const url = new URL(database.connectionString)
    url.username = encodeURIComponent(name)
    url.password = password
    return url.href
  }
  return {
    name,
    connectionString,
    pool: database => {
      const pool = heardPool({ connectionString: connectionString(database), max: 3 })
      pool.on('error', () => {})
      atEnd(() => pool.end())
      return pool
    },
  }
}
