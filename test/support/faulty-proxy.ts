import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { setTimeout as delay, setImmediate as turn } from 'node:timers/promises'

/** What a network does to bytes. */
export type NetworkFault =
  /** Passes them on. */
  | { kind: 'none' }
  /** Takes them, and passes them on only when the fault changes. */
  | { kind: 'stalls' }
  /** Loses all that goes to one end. Such a connection never works again. Its end is passed on when the fault changes. */
  | { kind: 'loses'; goingTo: 'server' | 'client' }
  /** Passes each packet on after a random time, in the same order. */
  | { kind: 'delays'; leastMs: number; mostMs: number }
  /** Passes on one byte at a time. */
  | { kind: 'splits' }
  /** Accepts new connections, and nobody ever answers there. Those that exist pass everything on. */
  | { kind: 'mutes' }
  /** Resets each new connection. Those that exist pass everything on. */
  | { kind: 'refuses' }

/** A TCP proxy in front of a server that does what networks do. See {@link startFaultyProxy}. */
export interface FaultyProxy extends AsyncDisposable {
  /** Connects through the proxy, to the same database as the same role. */
  readonly connectionString: string
  /** How many connections were made through the proxy. */
  readonly accepted: number
  /** How many connections the clients have not closed. */
  readonly open: number
  /** From now on it has this fault, for the connections that exist and for new ones. */
  has(fault: NetworkFault): void
  /** Ends all connections, for both ends, by a reset or by a goodbye. */
  cut(how: 'reset' | 'end'): void
  /** From now on it passes everything on, also what it has kept. */
  heal(): void
}

/** Starts a proxy on a free port of 127.0.0.1, in front of the server of a `postgres://` URL. */
export async function startFaultyProxy(connectionString: string): Promise<FaultyProxy> {
  const target = new URL(connectionString)
  const weather = new Weather()
  const clients = new Set<Socket>()
  const sockets = new Set<Socket>()
  let accepted = 0
  const keep = (socket: Socket, set: Set<Socket>) => {
    set.add(socket)
    socket.on('error', () => {})
    socket.on('close', () => set.delete(socket))
  }
  const proxy = createServer({ allowHalfOpen: true, noDelay: true }, client => {
    accepted++
    keep(client, sockets)
    keep(client, clients)
    const { kind } = weather.fault
    if (kind === 'refuses') client.resetAndDestroy()
    // It must read, or it would not notice that the client has gone.
    else if (kind === 'mutes') client.resume().on('end', () => client.end())
    else {
      const server = connect({ ...address(target), allowHalfOpen: true, noDelay: true })
      keep(server, sockets)
      carry(client, server, 'server', weather)
      carry(server, client, 'client', weather)
    }
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
    get open() {
      return clients.size
    },
    has: fault => weather.change(fault),
    cut(how) {
      for (const socket of sockets) how === 'reset' ? socket.resetAndDestroy() : socket.end()
    },
    heal: () => weather.change({ kind: 'none' }),
    async [Symbol.asyncDispose]() {
      proxy.close()
      for (const socket of sockets) socket.destroy()
      weather.change({ kind: 'none' })
    },
  }
}

function address(target: URL): { host: string; port: number } {
  return { host: target.hostname, port: Number(target.port || 5432) }
}

/** The fault of a proxy, and a way to wait until it changes. */
class Weather {
  fault: NetworkFault = { kind: 'none' }
  #changed = Promise.withResolvers<void>()

  get changed(): Promise<void> {
    return this.#changed.promise
  }

  change(fault: NetworkFault): void {
    this.fault = fault
    this.#changed.resolve()
    this.#changed = Promise.withResolvers<void>()
  }
}

/** Carries bytes in one direction, in their order, and then the end of the connection. */
function carry(from: Socket, to: Socket, goingTo: 'server' | 'client', weather: Weather): void {
  let isLost = false
  let last: Promise<unknown> = Promise.resolve()
  const then = (step: () => Promise<unknown> | unknown) => {
    last = last.then(async () => {
      while (weather.fault.kind === 'stalls') await weather.changed
      await step()
    })
  }
  const loses = ({ fault }: Weather) => fault.kind === 'loses' && fault.goingTo === goingTo
  const carryBytes = async (bytes: Buffer) => {
    isLost ||= loses(weather)
    if (!isLost && !to.destroyed) await pass(bytes, to, weather.fault)
  }
  // When nothing is lost any more, the other end learns that nobody is there: its system asks from time to time.
  const carryEnd = async (end: () => unknown) => {
    while (loses(weather)) await weather.changed
    if (isLost) for (const socket of [from, to]) socket.destroy()
    else if (!to.destroyed) end()
  }
  from.on('data', bytes => then(() => carryBytes(bytes)))
  from.on('end', () => then(() => carryEnd(() => to.end())))
  from.on('close', failed => then(() => carryEnd(() => failed && to.resetAndDestroy())))
}

async function pass(bytes: Buffer, to: Socket, fault: NetworkFault): Promise<void> {
  if (fault.kind === 'delays') {
    await delay(fault.leastMs + Math.random() * (fault.mostMs - fault.leastMs))
  }
  if (fault.kind !== 'splits') {
    to.write(bytes)
    return
  }
  for (const byte of bytes) {
    to.write(Buffer.of(byte))
    await turn()
  }
}
