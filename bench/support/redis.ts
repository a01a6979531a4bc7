import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { createClient } from '@redis/client'
import { freePort } from '../../dev/postgres/free-port.ts'

export type RedisClient = ReturnType<typeof createClient>

/** A Redis of our own. */
export interface Redis {
  client: RedisClient
  pid: number
  stop(): Promise<void>
}

/**
 * Starts a Redis on 127.0.0.1, without persistence, and a client. The client pipelines all that is sent in one turn.
 * Returns undefined if `redis-server` is not found.
 */
export async function startRedis(): Promise<Redis | undefined> {
  const port = await freePort()
  const arguments_ = [
    '--port',
    `${port}`,
    '--bind',
    '127.0.0.1',
    '--save',
    '',
    '--appendonly',
    'no',
    '--dir',
    '/',
  ]
  const server = spawn('redis-server', arguments_, { stdio: 'ignore' })
  const failure = await new Promise<NodeJS.ErrnoException | undefined>(resolve =>
    server.once('spawn', resolve).once('error', resolve),
  )
  if (failure?.code === 'ENOENT') return undefined
  if (failure) throw failure
  const client: RedisClient = createClient({ socket: { port, reconnectStrategy: () => 50 } })
  // The server may not listen yet when the client first connects. Any other error makes a command fail.
  client.on('error', () => {})
  const up = await Promise.race([client.connect().then(() => true), delay(10_000, false, { ref: false })])
  if (!up) {
    client.destroy()
    server.kill('SIGKILL')
    throw new Error(`redis-server on port ${port} did not answer within 10 s`)
  }
  return {
    client,
    pid: server.pid!,
    async stop() {
      client.destroy()
      const ended = once(server, 'exit')
      server.kill('SIGTERM')
      await ended
    },
  }
}
