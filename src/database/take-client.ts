import type { ConnectionPool, PooledClient } from './pool.ts'

/**
 * Takes a client and listens for its errors. A `pg` Pool calls back at once. A promise would resolve a moment later, and
 * the server may end a new connection in the very message that opens it: nobody would hear that error.
 */
export function takeClient(pool: ConnectionPool): Promise<PooledClient> {
  return new Promise((resolve, reject) => {
    const take = (client: PooledClient) => {
      client.on('error', ignore)
      resolve(listening(client))
    }
    const connect = pool.connect as (callback: Callback) => Promise<PooledClient> | undefined
    // Another pool may only know promises.
    connect.call(pool, (error, client) => (client ? take(client) : reject(error)))?.then(take, reject)
  })
}

type Callback = (error: Error | undefined, client?: PooledClient) => void

/** Until it is released it has a listener, because an unheard error ends the process. */
function listening(client: PooledClient): PooledClient {
  const { release } = client
  client.release = error => {
    // In this order, so that the client is never without a listener: the pool adds its own.
    release(error)
    // A client that the pool drops may still hear that the server ends it.
    if (!error) client.removeListener('error', ignore)
  }
  return client
}

function ignore(): void {}

/** Tells a `pg` Pool from a `pg` Client and from anything else. */
export function isPool(connection: object): connection is ConnectionPool {
  return 'totalCount' in connection && 'connect' in connection && typeof connection.connect === 'function'
}
