import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { createDashboardHandler } from '@pg-boss/dashboard/handler'
import { FLUSH_QUEUE } from '../queue.ts'

/** A dashboard that is being served. */
export interface Dashboard extends AsyncDisposable {
  /** The page of the flush queue. */
  readonly url: string
  close(): Promise<void>
}

/**
 * Serves the pg-boss dashboard of a database over HTTP, on 127.0.0.1 only: it has no authentication here, and whoever
 * reaches it can run and delete jobs.
 * @param port default: a free one
 */
export async function startDashboard(connectionString: string, port = 0): Promise<Dashboard> {
  const handler = createDashboardHandler({ databases: [{ url: connectionString }] })
  const server = createServer(getRequestListener(handler))
  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const close = async () => {
    server.closeAllConnections()
    server.close()
    await handler.close()
  }
  const address = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${address.port}/queues/${FLUSH_QUEUE}`,
    close,
    [Symbol.asyncDispose]: close,
  }
}
