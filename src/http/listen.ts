import { lookup } from 'node:dns/promises'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { HttpPortError } from '../errors.ts'

/** The host unless another one is given: only this machine reaches it. */
export const DEFAULT_HOST = '127.0.0.1'

/** Where a server listens, or is to listen. */
export interface Place {
  /** As the operator gave it. */
  host: string
  /** The IP address of the host. */
  address: string
  port: number
}

/**
 * Finds the address of a host. What is allowed there is judged by the address, because a name tells nothing.
 *
 * @throws {HttpPortError} If the host has no address.
 */
export async function findPlace(host: string, port: number): Promise<Place> {
  try {
    const { address } = await lookup(host)
    return { host, port, address }
  } catch (error) {
    throw new HttpPortError(host, port, error as NodeJS.ErrnoException)
  }
}

/**
 * Starts to listen.
 *
 * @throws {HttpPortError} If the port is taken, or the address is none of this machine.
 */
export async function listenAt({ host, address, port }: Place): Promise<Server> {
  const server = createServer()
  try {
    server.listen({ port, host: address })
    await once(server, 'listening')
    return server
  } catch (error) {
    throw new HttpPortError(host, port, error as NodeJS.ErrnoException)
  }
}

/** The URL at which a server listens. */
export function urlOf(server: Server): string {
  const { address, family, port } = server.address() as AddressInfo
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`
}
