import { once } from 'node:events'
import { createServer, request as requestOf } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { atEnd } from './at-end.ts'
import { until } from './poll.ts'

/** What an HTTP server answered. */
export interface Answer {
  status: number
  body: string
}

/** Sends a request to this machine, on a connection of its own. */
export async function send(
  port: number,
  path: string,
  { method = 'GET', host = 'localhost', body = '' }: { method?: string; host?: string; body?: string } = {},
): Promise<Answer> {
  const request = requestOf({ port, path, method, headers: { host }, agent: false }).end(body)
  const [answer] = await once(request, 'response')
  return { status: answer.statusCode, body: await text(answer) }
}

/** Waits until nobody listens on that port any more. */
export async function untilRefused(port: number): Promise<void> {
  await until(`port ${port} refuses connections`, async () => {
    const error = await send(port, '/').then(
      () => undefined,
      (error: NodeJS.ErrnoException) => error,
    )
    return error?.code === 'ECONNREFUSED'
  })
}

/** An HTTP server that answers 201 with method, path and body of each request, at once or when told to. */
export interface Upstream {
  readonly url: string
  /** Keeps answers back from now on, until the returned function is called. */
  hold(): () => void
  /** Waits until that many answers are kept back. */
  untilHeld(count: number): Promise<void>
  close(): Promise<void>
}

/** Starts it; closed at the file's end at the latest. */
export async function startUpstream(): Promise<Upstream> {
  let released = Promise.resolve()
  let held = 0
  const server = createServer(async (request, response) => {
    const body = await text(request)
    held++
    await released
    held--
    response.writeHead(201).end(`${request.method} ${request.url} ${body}`)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const close = async () => {
    if (!server.listening) return
    server.close()
    server.closeAllConnections()
    await once(server, 'close')
  }
  atEnd(close)
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    hold: () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      released = promise
      return resolve
    },
    untilHeld: async count => {
      await until(`${count} requests wait for their answers`, () => held === count)
    },
    close,
  }
}
