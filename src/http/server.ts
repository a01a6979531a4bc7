import type { Server } from 'node:http'
import { getRequestListener } from '@hono/node-server'
import { Hono } from 'hono'
import type { Logger } from '../logger.ts'
import { DASHBOARD_PATH, type Dashboard } from './dashboard.ts'
import { type HealthSources, healthRoutes } from './health-routes.ts'
import { METRICS_CONTENT_TYPE, type Metrics } from './metrics.ts'

/** The probes of some load balancers, such as HAProxy, speak HTTP/1.0 and send no Host header. */
const UNNAMED_HOST = 'localhost'

/** What is served. */
export interface Served extends HealthSources {
  metrics: Metrics
  dashboard: Dashboard | null
  logger: Logger
}

/** Answers the requests that come to a server, until {@link closeServer}. */
export function serve(server: Server, served: Served): void {
  server.on('error', error => served.logger.error({ err: error }, 'the HTTP server failed'))
  server.on('request', getRequestListener(routes(served).fetch, { hostname: UNNAMED_HOST }))
}

/** Closes a server at once, with its connections. A request under way gets no answer. */
export function closeServer(server: Server): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}

function routes(served: Served): Hono {
  const { dashboard, metrics, logger } = served
  const app = new Hono()
  if (dashboard) app.route('/', dashboard.routes)
  app.use(async ({ req, text }, next) => {
    if (req.method === 'GET' || req.method === 'HEAD') return await next()
    return text('Allowed: GET, HEAD.\n', 405, { Allow: 'GET, HEAD' })
  })
  app.get('/', ({ text }) => text(contents(dashboard !== null)))
  app.route('/', healthRoutes(served))
  app.get('/metrics', async ({ body }) =>
    body(await metrics.read(), 200, { 'Content-Type': METRICS_CONTENT_TYPE }),
  )
  app.notFound(({ text }) => text('Not found. / lists what is served.\n', 404))
  app.onError((error, { req, text }) => {
    if ('getResponse' in error) return error.getResponse()
    logger.error({ err: error, path: req.path }, 'a request failed')
    return text('This request failed. The log of the worker tells why.\n', 500)
  })
  return app
}

function contents(withDashboard: boolean): string {
  const lines = [
    'workspace-usage worker',
    '',
    '/healthz   whether this process flushes: 200 or 503',
    '/readyz    the verdict: 503 if a problem is critical; ?severity=warning: if there is any problem',
    '/metrics   for Prometheus',
    ...(withDashboard ? [`${DASHBOARD_PATH}    the pg-boss dashboard`] : []),
  ]
  return `${lines.join('\n')}\n`
}
