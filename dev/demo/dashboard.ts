import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { createDashboardHandler } from '@pg-boss/dashboard/handler'
import { createPool } from '../../src/database/pool.ts'
import { flushQueues } from '../../src/worker/queue.ts'

const COUNTS = ['flushed', 'workspaces', 'updated', 'unknown', 'held'].map(count => `&col=output.${count}`)

/** A dashboard that is being served. */
export interface Dashboard extends AsyncDisposable {
  /** The page that lists the finished flushes with their counts. */
  readonly url: string
}

/**
 * Serves the pg-boss dashboard of a database over HTTP. It is on 127.0.0.1 only, because it has no authentication, and
 * anybody who reaches it can run and delete jobs.
 *
 * @param server What `listen` returned. Default: one on a free port. It ends with the dashboard.
 */
export async function startDashboard(connectionString: string, server = listen()): Promise<Dashboard> {
  const listening = await server
  const handler = createDashboardHandler({ databases: [{ url: connectionString }] })
  // The page has a long address, and this short one fits into a line of a terminal.
  const location = await pageOfFinishedFlushes(connectionString)
  const redirect = new Response(null, { status: 302, headers: { location } })
  const answer = (request: Request) =>
    new URL(request.url).pathname === '/flushes' ? redirect.clone() : handler(request)
  listening.on('request', getRequestListener(answer))
  return {
    url: `http://127.0.0.1:${(listening.address() as AddressInfo).port}/flushes`,
    async [Symbol.asyncDispose]() {
      listening.closeAllConnections()
      listening.close()
      await handler.close()
    },
  }
}

/**
 * Takes a port of 127.0.0.1 before there is a dashboard.
 *
 * @param port Default: a free one.
 */
export async function listen(port = 0) {
  const server = createServer().listen(port, '127.0.0.1')
  await once(server, 'listening').catch(({ code, message }: NodeJS.ErrnoException) => {
    const reason = code === 'EADDRINUSE' ? 'another program listens there' : message
    throw new Error(
      `port ${port} of 127.0.0.1 can't be had for the dashboard: ${reason}. ` +
        'Give another --dashboard-port, or leave it out to have a free one.',
    )
  })
  return server
}

/** The queue is that of the schema which the connection flushes. */
async function pageOfFinishedFlushes(connectionString: string): Promise<string> {
  const pool = createPool(connectionString, { applicationName: 'workspace-usage demo', max: 1 })
  try {
    const { flush } = await flushQueues(pool)
    return `/queues/${flush}?state=completed&col=id&col=completedOn${COUNTS.join('')}`
  } finally {
    await pool.end()
  }
}
