import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { createClient } from '@redis/client'
import { freePort } from '../dev/postgres/free-port.ts'

export type RedisClient = ReturnType<typeof createClient>

/**
 * A Redis of our own on 127.0.0.1, without persistence, and a client, which pipelines by itself whatever is sent in one
 * turn. Undefined if there is no `redis-server` to be found.
 */
export async function startRedis(): Promise<{ client: RedisClient; stop(): Promise<void> } | undefined> {
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
  // It is not there yet when the client first looks; whatever else goes wrong fails the command.
  client.on('error', () => {})
  const up = await Promise.race([client.connect().then(() => true), delay(10_000, false)])
  if (!up) {
    client.destroy()
    server.kill('SIGKILL')
    throw new Error(`redis-server on port ${port} did not answer within 10 s`)
  }
  return {
    client,
    async stop() {
      client.destroy()
      const ended = once(server, 'exit')
      server.kill('SIGTERM')
      await ended
    },
  }
}
