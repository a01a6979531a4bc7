import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import path from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../../dev/postgres/embedded-postgres.ts'
import { migrate } from '../../../src/schema/migrate.ts'
import { setUsagePeriod } from '../../../src/schema/period.ts'
import { ROOT } from '../../support/checkout.ts'
import { startInstalledPostgres15 } from '../../support/installed-postgres-15.ts'
import { TEST_SETTINGS } from '../../support/settings.ts'
import { silentLogger } from './surroundings.ts'
import { PERIOD_MS, type Universe } from './universe.ts'

/** The roles of the check, each with no more than its duty. */
export type Role = 'marker' | 'worker' | 'reader' | 'host'

/** The server under test, with a database that is ready. */
export interface Stage {
  server: EmbeddedPostgres
  /** The superuser's. */
  admin: string
  as: Record<Role, string>
}

/** Starts the server, and prepares a database as a host would: its own table, `migrate`, `grant`. */
export async function prepareStage(postgres: '15' | '18', universe: Universe): Promise<Stage> {
  const server = await startServer(postgres)
  try {
    const admin = server.connectionString
    await prepareDatabase(admin, universe)
    return { server, admin, as: await createRoles(admin) }
  } catch (error) {
    await server.stop()
    throw error
  }
}

async function startServer(postgres: '15' | '18'): Promise<EmbeddedPostgres> {
  // What was committed must survive a crash of the server, but not one of the machine.
  const settings = { ...TEST_SETTINGS, synchronous_commit: 'on' }
  if (postgres === '18') return await startEmbeddedPostgres({ settings })
  const server = await startInstalledPostgres15(settings)
  if (server === null) throw new Error('PostgreSQL 15 is not installed. On Debian: apt install postgresql-15')
  return server
}

async function prepareDatabase(admin: string, universe: Universe): Promise<void> {
  const pool = new pg.Pool({ connectionString: admin, max: 2 })
  try {
    await pool.query(`CREATE TABLE workspaces (
      id uuid PRIMARY KEY, last_used_at timestamptz, changes int NOT NULL DEFAULT 0
    ) WITH (fillfactor = 70)`)
    // The others are created during the run.
    const existing = universe.ids.filter((_, number) => number % 10 !== 0)
    await pool.query('INSERT INTO workspaces (id) SELECT unnest($1::uuid[])', [existing])
    await migrate({ connectionString: admin, logger: silentLogger })
    await setUsagePeriod(pool, PERIOD_MS / 1_000)
    await pool.query(WITNESS_OF_MOVES)
  } finally {
    await pool.end()
  }
}

/** Writes down each row whose time moves backwards, whoever does it. */
const WITNESS_OF_MOVES = `
  CREATE TABLE moved_back (at timestamptz DEFAULT clock_timestamp(), was timestamptz, became timestamptz);
  CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
  BEGIN
    INSERT INTO public.moved_back (was, became) VALUES (OLD.last_used_at, NEW.last_used_at);
    RETURN NULL;
  END $$;
  CREATE TRIGGER note_move AFTER UPDATE ON workspaces FOR EACH ROW
    WHEN (OLD.last_used_at > NEW.last_used_at OR (OLD.last_used_at IS NOT NULL AND NEW.last_used_at IS NULL))
    EXECUTE FUNCTION note_move();
  CREATE TRIGGER note_move AFTER UPDATE ON workspace_usage_day FOR EACH ROW
    WHEN (OLD.last_used_at > NEW.last_used_at) EXECUTE FUNCTION note_move();`

async function createRoles(admin: string): Promise<Record<Role, string>> {
  const client = new pg.Client(admin)
  await client.connect()
  const as = {} as Record<Role, string>
  try {
    for (const role of ['marker', 'worker', 'reader', 'host'] as const) {
      const url = new URL(admin)
      url.username = `history_${role}`
      url.password = randomBytes(9).toString('hex')
      await client.query(`CREATE ROLE history_${role} LOGIN PASSWORD '${url.password}'`)
      as[role] = url.href
    }
    await client.query('GRANT SELECT, INSERT, UPDATE, DELETE ON workspaces TO history_host')
    // The check's own question, beside the views of a reader: which workspaces exist?
    await client.query('GRANT SELECT (id) ON workspaces TO history_reader')
  } finally {
    await client.end()
  }
  await grant(admin)
  return as
}

/** As an operator does it. */
async function grant(admin: string): Promise<void> {
  const duties = ['marker', 'worker', 'reader'].flatMap(duty => [`--${duty}`, `history_${duty}`])
  await promisify(execFile)(process.execPath, [path.join(ROOT, 'src/cli/main.ts'), 'grant', ...duties], {
    env: { ...process.env, DATABASE_URL: admin },
  })
}
