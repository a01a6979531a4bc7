import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { migrate } from '../src/schema/migrate.ts'

/** Runs something in a new, migrated database, and drops that database afterwards. The caller ends its own pool. */
export async function withBenchDatabase<T>(
  server: string,
  run: (connectionString: string) => Promise<T>,
): Promise<T> {
  const name = `usage_bench_${randomBytes(4).toString('hex')}`
  const url = new URL(server)
  url.pathname = name
  const admin = new pg.Client({ connectionString: server })
  await admin.connect()
  try {
    await admin.query(`CREATE DATABASE ${pg.escapeIdentifier(name)}`)
    await migrate({ connectionString: url.href })
    return await run(url.href)
  } finally {
    await admin.query(`DROP DATABASE IF EXISTS ${pg.escapeIdentifier(name)} WITH (FORCE)`)
    await admin.end()
  }
}
