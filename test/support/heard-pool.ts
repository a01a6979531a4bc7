import pg from 'pg'

/**
 * A pool whose clients may be ended by the server at any time, such as when their database is dropped while they say
 * goodbye. An error that nobody hears would end the process.
 */
export function heardPool(config: pg.PoolConfig): pg.Pool {
  const pool = new pg.Pool(config)
  pool.on('error', () => {})
  pool.on('connect', client => client.on('error', () => {}))
  return pool
}
