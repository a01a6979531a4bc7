/*
 * A reverse proxy in front of workspaces that marks a workspace at every request.
 *
 *     DATABASE_URL=postgres://… UPSTREAM=http://10.0.0.7:3000 PORT=8080 node examples/proxy-middleware.ts
 *     curl http://localhost:8080/w/1b4e28ba-2fa1-41d2-883f-0016d3cca427/
 *
 * Its role needs only INSERT (workspace_id, source) on pending_usage. In a checkout of workspace-usage, run
 * `npm run build` first.
 */
import { once } from 'node:events'
import { createServer, type IncomingMessage, request as requestOf, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { pipeline } from 'node:stream'
import pg from 'pg'
import { UsageTracker } from 'workspace-usage/mark'

const { DATABASE_URL, UPSTREAM = 'http://127.0.0.1:3000', PORT = '8080' } = process.env

const pool = new pg.Pool({ connectionString: DATABASE_URL, max: 2, query_timeout: 10_000 })
const tracker = new UsageTracker(pool, { source: 'proxy' })

const UUID = /[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/.source
const PATH = new RegExp(`^/w/(${UUID})(?=[/?]|$)`, 'i')
const HOST = new RegExp(`^(${UUID})\\.`, 'i')

/** The workspace that a request is for: `/w/<id>/…`, or any path of `<id>.example.com`. */
function workspaceOf({ url = '', headers }: IncomingMessage): string | undefined {
  return (PATH.exec(url) ?? HOST.exec(headers.host ?? ''))?.[1]
}

/**
 * The middleware, in the form that Express takes. It waits for nothing, so an outage of the database does not slow a
 * request or make it fail. If a connection stays open for hours, call `mark` for each piece of data on it too. Repeats
 * within a period stay in this process.
 */
function markWorkspace(request: IncomingMessage, response: ServerResponse, next: () => void): void {
  const id = workspaceOf(request)
  if (id === undefined) {
    response.writeHead(404).end('no workspace in path or host\n')
    return
  }
  tracker.mark(id)
  next()
}

/** A real proxy looks up where the workspace runs. Here all workspaces are at UPSTREAM. */
function proxy(request: IncomingMessage, response: ServerResponse): void {
  const { method, url: path, headers } = request
  const upstream = requestOf(UPSTREAM, { method, path, headers }, answer => {
    response.writeHead(answer.statusCode!, answer.headers)
    pipeline(answer, response, () => {})
  })
  upstream.on('error', () => {
    if (response.headersSent) response.destroy()
    else response.writeHead(502).end('the workspace does not answer\n')
  })
  pipeline(request, upstream, () => {})
}

const server = createServer((request, response) => {
  markWorkspace(request, response, () => proxy(request, response))
})
server.listen(Number(PORT))
await once(server, 'listening')
console.log(`listening on port ${(server.address() as AddressInfo).port}`)

// First the requests end, then the marks, then the connections. After that nothing keeps the process alive.
process.once('SIGTERM', async () => {
  server.close()
  await once(server, 'close')
  await tracker.close()
  await pool.end()
})
