import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { createDashboardHandler } from '@pg-boss/dashboard/handler'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'

/** A dashboard that is being served. */
export interface Dashboard extends AsyncDisposable {
  /** The page that lists the finished flushes with their counts. */
  readonly url: string
  close(): Promise<void>
}

/** The job's own page can't be opened: this dashboard was built with an older pg-boss, whose schema it asks for. */
const FINISHED_FLUSHES =
  'state=completed&col=completed_on&col=output.flushed&col=output.workspaces&col=output.updated' +
  '&col=output.unknown&col=output.held'

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
  const { port: listening } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${listening}/queues/${FLUSH_QUEUE}?${FINISHED_FLUSHES}`,
    close,
    [Symbol.asyncDispose]: close,
  }
}
