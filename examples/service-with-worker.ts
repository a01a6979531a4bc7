/*
 * A service that also runs the flush worker. Its own work here is to tell when a workspace was last used.
 *
 *     DATABASE_URL=postgres://… npx workspace-usage migrate
 *     DATABASE_URL=postgres://… PORT=8080 node examples/service-with-worker.ts
 *     curl http://localhost:8080/workspaces/1b4e28ba-2fa1-41d2-883f-0016d3cca427
 *
 * Any number of such services may run. One of them does each flush. In a checkout of workspace-usage, run `npm run
 * build` first.
 */
import { once } from 'node:events'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import { pino } from 'pino'
import {
  canonicalWorkspaceId,
  InvalidWorkspaceIdError,
  startFlushWorker,
  type UsageSchema,
} from 'workspace-usage'

const { DATABASE_URL, PORT = '8080', FLUSH_INTERVAL = '60' } = process.env
const logger = pino()

// The service owns the pool, so it must listen for errors of idle connections. The worker uses up to four connections.
const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 10 })
pool.on('error', error => logger.warn({ err: error }, 'an idle database connection broke'))
const db = new Kysely<UsageSchema>({ dialect: new PostgresDialect({ pool }) })

const worker = await startFlushWorker({
  database: pool,
  logger,
  flushIntervalSeconds: Number(FLUSH_INTERVAL),
})

/** The service's own work. The view includes pending usage. */
async function answer(path: string, response: ServerResponse): Promise<void> {
  const activity = await db
    .selectFrom('workspace_activity')
    .select(['last_used_at', 'source', 'pending'])
    .where('workspace_id', '=', canonicalWorkspaceId(path.replace('/workspaces/', '')))
    .executeTakeFirst()
  response.writeHead(activity ? 200 : 404, { 'content-type': 'application/json' })
  response.end(JSON.stringify(activity ?? { error: 'no such workspace' }))
}

const server = createServer((request, response) => {
  answer(request.url ?? '', response).catch(error => {
    if (!(error instanceof InvalidWorkspaceIdError)) logger.error({ err: error }, 'a request failed')
    response.writeHead(error instanceof InvalidWorkspaceIdError ? 404 : 500).end()
  })
})
server.listen(Number(PORT))
await once(server, 'listening')
logger.info({ port: (server.address() as AddressInfo).port }, 'listening')

// The worker finishes the flush that is running. The pool ends last, because both use it. A second signal ends at once.
process.once('SIGTERM', async () => {
  server.close()
  await Promise.all([once(server, 'close'), worker.stop()])
  await db.destroy()
})
