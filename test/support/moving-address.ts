import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { atEnd } from './at-end.ts'

/** A TCP address of one server that later leads to another one, as a name does that follows the primary. */
export interface MovingAddress {
  /** Connects through the address. Database, role and password are those of the first server. */
  readonly connectionString: string
  /** From now on the address leads to the server of this connection string. Connections of before are closed. */
  moveTo(connectionString: string): void
}

/** Starts it on a free port of 127.0.0.1. It is closed at the file's end. */
export async function startMovingAddress(connectionString: string): Promise<MovingAddress> {
  let target = new URL(connectionString)
  const sockets = new Set<Socket>()
  const address = createServer(client => {
    const server = connect({ host: target.hostname, port: Number(target.port) })
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      sockets.add(from)
      from.on('error', () => {})
      from.on('close', () => {
        sockets.delete(from)
        to.destroy()
      })
      from.pipe(to)
    }
  })
  const closeAll = () => {
    for (const socket of sockets) socket.destroy()
  }
  address.listen(0, '127.0.0.1')
  await once(address, 'listening')
  atEnd(() => {
    address.close()
    closeAll()
  })
  const through = new URL(connectionString)
  through.hostname = '127.0.0.1'
  through.port = String((address.address() as AddressInfo).port)
  return {
    connectionString: through.href,
    moveTo(to) {
      target = new URL(to)
      closeAll()
    },
  }
}
