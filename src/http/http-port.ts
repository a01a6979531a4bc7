import { type HealthOptions, usageHealth } from '../activity/health.ts'
import { answerWithin } from '../database/deadline.ts'
import { inSchema } from '../database/in-schema.ts'
import { createPool } from '../database/pool.ts'
import type { Logger } from '../logger.ts'
import type { Liveness } from '../worker/liveness.ts'
import { type DashboardOptions, dashboardCredentials, openDashboard } from './dashboard.ts'
import { findPlace, listenAt, urlOf } from './listen.ts'
import { startMetrics } from './metrics.ts'
import { closeServer, serve } from './server.ts'

/** Milliseconds after which a statement of the verdict is given up. */
const STATEMENT_TIMEOUT_MS = 10_000

/** The longest wait at the end for connections that wait for an answer, in ms. */
const CLOSE_TIMEOUT_MS = 1_000

/** Options of {@link openHttpPort}. */
export interface HttpPortOptions {
  /** 0 is any free one. */
  port: number
  host: string
  /** A connection string. */
  database: string
  /** The schema of the tables. Default: `search_path` leads to them. */
  schema?: string | undefined
  logger: Logger
  /** The limits of the verdict. */
  health: HealthOptions
  /** Null: it is not served. */
  dashboard: DashboardOptions | null
}

/** The worker's HTTP port. */
export interface HttpPort extends AsyncDisposable {
  url: string
  /** From now on `/healthz` asks this worker. Before, it says that the worker starts. */
  answersFor(worker: { liveness(): Promise<Liveness> }): void
  /** Closes it at once, with its connections. It ends in bounded time. A second call waits for the same end. */
  close(): Promise<void>
}

/**
 * Opens the worker's HTTP port: `/healthz`, `/readyz`, `/metrics` and the dashboard. Open it before the worker starts,
 * because only what is measured afterwards is in `/metrics`.
 *
 * @throws {HttpPortError} If the port can't be had. Nothing is open then, and nothing is connected. The same goes for:
 * @throws {DashboardCredentialError} If others could reach the dashboard without a password.
 * @throws {DashboardMissingError} If the package of the dashboard is not installed.
 * @throws {InvalidOptionError} If the connection string can't be parsed, or the name of the dashboard's user can't be sent.
 */
export async function openHttpPort(options: HttpPortOptions): Promise<HttpPort> {
  const { port, host, database, schema, logger, health, dashboard: wanted } = options
  const place = await findPlace(host, port)
  const credentials = wanted && dashboardCredentials(wanted, place)
  const dashboard = wanted && (await openDashboard(database, { write: wanted.write, credentials }))
  const pool = createPool(database, {
    applicationName: 'workspace-usage worker',
    max: 2,
    statementTimeoutMs: STATEMENT_TIMEOUT_MS,
    logger,
  })
  const closeParts = () => inTime(Promise.allSettled([dashboard?.close(), pool.end()]))
  const server = await listenAt(place).catch(async error => {
    await closeParts()
    throw error
  })
  const metrics = startMetrics(logger)
  let liveness = async (): Promise<Liveness> => ({ alive: false, reason: 'the worker has not started yet' })
  serve(server, {
    liveness: () => liveness(),
    verdict: () => usageHealth(schema === undefined ? pool : inSchema(pool, schema), health),
    metrics,
    dashboard,
    logger,
  })
  const closeAll = () => inTime(Promise.allSettled([closeServer(server), metrics.stop(), closeParts()]))
  let closing: Promise<void> | undefined
  const close = () => {
    closing ??= closeAll()
    return closing
  }
  return {
    url: urlOf(server),
    answersFor(worker) {
      liveness = () => worker.liveness()
    },
    close,
    [Symbol.asyncDispose]: close,
  }
}

async function inTime(ending: Promise<unknown>): Promise<void> {
  await answerWithin(
    CLOSE_TIMEOUT_MS,
    () => ending,
    () => {},
  ).catch(() => {})
}
