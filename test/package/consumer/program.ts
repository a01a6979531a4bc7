/*
 * A program of somebody who installed the package: the test compiles it against the package's types, and runs
 * it on the database of DATABASE_URL. It uses the public API with each kind of connection, and prints the
 * results.
 */

import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import {
  type ConnectionPool,
  drain,
  type FlushResult,
  flush,
  InvalidOptionError,
  InvalidWorkspaceIdError,
  type Logger,
  MarksNotStoredError,
  markUsage,
  migrate,
  pendingStatus,
  setUsagePeriod,
  startFlushWorker,
  type UsageSchema,
  UsageTracker,
  WorkspaceUsageError,
} from 'workspace-usage'

interface HostTables {
  customers: { id: string; name: string }
}

const FIRST = 'ad0b51e0-4a1f-4f5c-9d4e-111111111111'
const SECOND = 'ad0b51e0-4a1f-4f5c-9d4e-222222222222'

const connectionString = process.env.DATABASE_URL!
const lines: string[] = []
const log = (_fields: object, message: string) => void lines.push(message)
const logger: Logger = { debug: log, info: log, warn: log, error: log }

const { applied, queue } = await migrate({ connectionString, logger })

const pool = new pg.Pool({ connectionString, max: 5 })
await setUsagePeriod(pool, 0.1)
const db = new Kysely<HostTables & UsageSchema>({ dialect: new PostgresDialect({ pool }) })
await db
  .insertInto('workspaces')
  .values([{ id: FIRST }, { id: SECOND }])
  .execute()

const tracker = new UsageTracker(pool, { source: 'ssh', logger })
tracker.mark(FIRST)
await tracker.drain()
const { marked, stored } = tracker.stats()
const { left } = await tracker.close({ timeoutMs: 1_000 })

const kyselyTracker = new UsageTracker(db, { source: 'vscode', logger })
kyselyTracker.mark(SECOND)
await kyselyTracker.close()

const client = new pg.Client({ connectionString })
await client.connect()
await markUsage(client, FIRST, { source: 'client' })
await client.end()
await db.transaction().execute(transaction => markUsage(transaction, [FIRST, SECOND], { source: 'kysely' }))

// Waits until all periods with marks are closed, so that the flush consumes every mark.
while ((await pendingStatus(pool)).open > 0);
const result: FlushResult = await flush(pool, { batchSize: 100 })
const { flushes } = await drain(db)
const activity = await db
  .selectFrom('workspace_activity')
  .select(['workspace_id', 'pending'])
  .where('last_used_at', 'is not', null)
  .orderBy('workspace_id')
  .execute()

const shared: ConnectionPool = pool
const worker = await startFlushWorker({ database: shared, logger, flushIntervalSeconds: 3_600 })
await worker.stop()

const refused: unknown[] = []
for (const wrong of [
  () => tracker.close({ timeoutMs: -1 }),
  () => markUsage(pool, 'workspace-1'),
  () => startFlushWorker({ database: pool, logger, flushIntervalSeconds: 61 }),
]) {
  await wrong().catch((error: unknown) => refused.push(error))
}
await pool.end()

console.log(
  JSON.stringify({
    node: process.version,
    applied: applied.length,
    queue: queue.queue,
    tracked: { marked, stored, left },
    flushed: result.flushed,
    updated: result.updated,
    flushes,
    activity,
    refused: refused.map(error => error instanceof WorkspaceUsageError && error.name),
    classes: [
      refused[0] instanceof InvalidOptionError,
      refused[1] instanceof InvalidWorkspaceIdError,
      !(refused[2] instanceof MarksNotStoredError),
    ],
  }),
)
