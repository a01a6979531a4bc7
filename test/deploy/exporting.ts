import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type pg from 'pg'
import { startMetrics } from '../../src/http/metrics.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { atEnd } from '../support/at-end.ts'
import { createEmptyDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { collectLog } from '../support/log-lines.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { startProgram } from '../support/process.ts'
import { createWorkspaces } from '../support/seed.ts'

/** Where the metrics of a worker and of a tracker are read. */
export interface Exporting {
  worker: { address: string; read(): Promise<string> }
  tracker: { address: string; read(): Promise<string> }
}

/**
 * Starts a worker with a port, and a tracker, to both of which has happened what their metrics tell: flushes that
 * succeeded and one that failed, refused and unknown marks, a source that is silent. Their tables are in a schema of
 * their own, so the metrics have every label that there is.
 */
export async function startExporting(): Promise<Exporting> {
  const pool = await installInSchema()
  const [used, refused] = await createWorkspaces(pool, 2)
  await pool.query(`
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'not this one'; END $$;
    CREATE TRIGGER refuse BEFORE UPDATE ON workspaces FOR EACH ROW WHEN (old.id = '${refused}')
      EXECUTE FUNCTION refuse();
    INSERT INTO source_usage VALUES ('gone', now() - interval '3 days', now() - interval '2 hours')`)

  const { logger } = collectLog()
  const metrics = startMetrics(logger)
  atEnd(() => metrics.stop())
  const tracker = new UsageTracker(pool, { source: 'ssh', logger })
  atEnd(() => tracker.close())

  const program = startProgram(
    'src/cli/main.ts',
    ['worker', '--port', '0', '--flush-interval', '1', '--unknown-after', '0'],
    { env: { DATABASE_URL: pool.options.connectionString! } },
  )
  const [, address] = /http:\/\/([\d.]+:\d+)/.exec(await program.line(/http:\/\/[\d.]+:\d+/))!
  const read = async () => (await fetch(`http://${address}/metrics`)).text()
  for (const id of [used!, refused!, randomUUID()]) tracker.mark(id)
  const has = (pattern: RegExp) =>
    until(`/metrics has ${pattern}`, async () => pattern.test(await read()), { timeoutMs: 20_000 })
  await has(/^workspace_usage_pending\{.*state="refused".*\} 1$/m)
  await has(/^workspace_usage_flush_marks_total\{.*source="ssh".*\} [12]$/m)

  await pool.query('ALTER TABLE workspaces RENAME TO hidden_workspaces')
  tracker.mark(used!)
  await has(/^workspace_usage_flush_failures_total\{/m)
  await pool.query('ALTER TABLE hidden_workspaces RENAME TO workspaces')
  return {
    worker: { address: address!, read },
    tracker: { address: await serve(metrics.read), read: metrics.read },
  }
}

async function installInSchema(): Promise<pg.Pool> {
  const database = await createEmptyDatabase()
  await database.pool.query('CREATE SCHEMA sales')
  const url = new URL(database.connectionString)
  url.search = `?options=${encodeURIComponent('-c search_path=sales')}`
  await migrate({ connectionString: url.href })
  const pool = heardPool({ connectionString: url.href })
  pool.on('error', () => {})
  atEnd(() => pool.end())
  await setPeriodLength(pool, 0.5)
  return pool
}

/** Serves the metrics of this process, as a service that marks does. */
async function serve(read: () => Promise<string>): Promise<string> {
  const server = createServer(async (_, response) => {
    response.setHeader('Content-Type', 'text/plain; version=0.0.4').end(await read())
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  atEnd(() => {
    server.closeAllConnections()
    server.close()
  })
  return `127.0.0.1:${(server.address() as { port: number }).port}`
}
