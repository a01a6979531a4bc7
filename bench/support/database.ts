import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { migrate } from '../../src/schema/migrate.ts'

/** Runs something in a new, migrated database, and drops that database afterwards. */
export async function withBenchDatabase<T>(
  server: string,
  run: (connectionString: string) => Promise<T>,
): Promise<T> {
  const name = `usage_bench_${randomBytes(4).toString('hex')}`
  const url = new URL(server)
  url.pathname = name
  const admin = new pg.Client({ connectionString: server })
  // A measure takes minutes. A connection that breaks meanwhile makes the DROP fail, and not this process.
  admin.on('error', () => {})
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

/** Runs something with a pool, and ends the pool afterwards. */
export async function withPool<T>(
  connectionString: string,
  run: (pool: pg.Pool) => Promise<T>,
  options: pg.PoolConfig = {},
): Promise<T> {
  const pool = new pg.Pool({ connectionString, max: 8, application_name: 'bench', ...options })
  // The database is dropped while the last connections are still closing.
  pool.on('error', () => {})
  try {
    return await run(pool)
  } finally {
    await pool.end()
  }
}

/** SQL of the id of the n-th workspace. pgbench can make it of a number. */
export const idOf = (n: string) => `md5((${n})::text)::uuid`

/** The source that has used each workspace of the large database. */
export const SOURCE = 'ssh'

/**
 * Fills a migrated database with workspaces, each of them used an hour ago by one source, and with the table `shuffled
 * (place, id)`.
 */
export async function createWorkspaces(connectionString: string, count: number): Promise<void> {
  await withPool(
    connectionString,
    async pool => {
      await pool.query(
        `INSERT INTO workspaces SELECT ${idOf('n')}, now() - interval '1 h' FROM generate_series(1, $1) AS n`,
        [count],
      )
      await pool.query(
        `CREATE TABLE shuffled AS
        SELECT row_number() OVER (ORDER BY random())::integer AS place, id FROM workspaces`,
      )
      await pool.query('ALTER TABLE shuffled ADD PRIMARY KEY (place)')
      // To check a million foreign keys takes as long as all the rest. Only a superuser may leave that out.
      await pool.query(`SELECT set_config('session_replication_role', 'replica', false)
        FROM pg_roles WHERE rolname = current_user AND rolsuper`)
      await pool.query(
        `INSERT INTO workspace_usage_day (workspace_id, source, last_used_at, day, first_used_at, slots)
        SELECT id, $1, last_used_at, (now() AT TIME ZONE 'UTC')::date, last_used_at, 0::bit(288) FROM workspaces`,
        [SOURCE],
      )
      await pool.query('VACUUM ANALYZE')
      await pool.query('CHECKPOINT')
    },
    { max: 1 },
  )
}
