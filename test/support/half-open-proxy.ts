import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'

/** A connection through the proxy. */
interface Pair {
  client: Socket
  server: Socket
  silent: boolean
}

/**
 * A TCP proxy in front of a server that can fall silent. Then it keeps connections open and passes nothing on, as a
 * network does that lost a connection and tells nobody. See {@link startHalfOpenProxy}.
 */
export interface HalfOpenProxy extends AsyncDisposable {
  /** Connects through the proxy, to the same database as the same role. */
  readonly connectionString: string
  /** How many connections were made through the proxy. */
  readonly accepted: number
  /** How many connections the client has not closed, of those that are silent. */
  readonly silentAndOpen: number
  /**
   * From now on the connections that exist pass nothing on, in either direction. They stay open.
   *
   * @param newOnes What becomes of connections made later, until `heal`. Default `work`.
   */
  silence(newOnes?: 'work' | 'silent'): void
  /** Later connections work. The silent ones stay silent. */
  heal(): void
}

/** Starts a proxy on a free port of 127.0.0.1, in front of the server of a `postgres://` URL. */
export async function startHalfOpenProxy(connectionString: string): Promise<HalfOpenProxy> {
  const target = new URL(connectionString)
  const pairs = new Set<Pair>()
  let accepted = 0
  let newOnes: 'work' | 'silent' = 'work'

  const proxy = createServer(client => {
    accepted++
    const server = connect({ host: target.hostname, port: Number(target.port || 5432) })
    const pair: Pair = { client, server, silent: newOnes === 'silent' }
    pairs.add(pair)
    join(pair, client, server)
    join(pair, server, client)
    const forget = () => {
      if (client.destroyed && server.destroyed) pairs.delete(pair)
    }
    client.on('close', forget)
    server.on('close', forget)
  })
  proxy.listen(0, '127.0.0.1')
  await once(proxy, 'listening')
  const through = new URL(connectionString)
  through.hostname = '127.0.0.1'
  through.port = String((proxy.address() as AddressInfo).port)

  return {
    connectionString: through.href,
    get accepted() {
      return accepted
    },
    get silentAndOpen() {
      return [...pairs].filter(({ silent, client }) => silent && !client.destroyed).length
    },
    silence(later = 'work') {
      newOnes = later
      for (const pair of pairs) pair.silent = true
    },
    heal() {
      newOnes = 'work'
    },
    async [Symbol.asyncDispose]() {
      proxy.close()
      for (const { client, server } of pairs) {
        client.destroy()
        server.destroy()
      }
    },
  }
}

/** Passes on what comes from one end to the other. An end that closes closes the other, unless the pair is silent. */
function join(pair: Pair, from: Socket, to: Socket): void {
  from.on('data', bytes => {
    if (!pair.silent) to.write(bytes)
  })
  from.on('error', () => {})
  from.on('close', () => {
    if (!pair.silent) to.destroy()
  })
}
