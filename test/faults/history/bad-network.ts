import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A proxy in front of the server that can be told to do what a bad network does. */
export interface BadNetwork extends AsyncDisposable {
  /** Connects through the proxy, to the same database as the same role. */
  through(connectionString: string): string
  /** Closes all connections. */
  cut(): void
  /** Passes nothing on until `heal`, and then everything that came meanwhile. */
  stall(): void
  /** From now on the connections that exist, and new ones until `heal`, are silent for good. They stay open. */
  silence(): void
  heal(): void
}

interface Pair {
  ends: [Socket, Socket]
  silent: boolean
}

/** Starts it on a free port of 127.0.0.1. */
export async function startBadNetwork(port: number): Promise<BadNetwork> {
  const pairs = new Set<Pair>()
  let state: 'works' | 'stalled' | 'silent' = 'works'
  const proxy = createServer(client => {
    const server = connect({ host: '127.0.0.1', port })
    const pair: Pair = { ends: [client, server], silent: state === 'silent' }
    pairs.add(pair)
    for (const [from, to] of [pair.ends, pair.ends.toReversed()] as [Socket, Socket][]) {
      from.on('data', bytes => {
        if (!pair.silent && !to.destroyed) to.write(bytes)
      })
      from.on('error', () => {})
      from.on('close', () => {
        if (!pair.silent) to.destroy()
        if (from.destroyed && to.destroyed) pairs.delete(pair)
      })
      if (state === 'stalled') from.pause()
    }
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const address = proxy.address() as AddressInfo
  const sockets = () => [...pairs].flatMap(({ ends }) => ends)
  const cut = () => {
    for (const socket of sockets()) socket.destroy()
  }
  return {
    through(connectionString) {
      const url = new URL(connectionString)
      url.port = String(address.port)
      return url.href
    },
    cut,
    stall() {
      state = 'stalled'
      for (const socket of sockets()) socket.pause()
    },
    silence() {
      state = 'silent'
      for (const pair of pairs) pair.silent = true
    },
    heal() {
      state = 'works'
      for (const socket of sockets()) socket.resume()
    },
    async [Symbol.asyncDispose]() {
      proxy.close()
      cut()
    },
  }
}
