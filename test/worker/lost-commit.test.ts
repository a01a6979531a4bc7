import assert from 'node:assert/strict'
import pg from 'pg'
import type { ConnectionPool } from '../../src/database/pool.ts'
import { BoundedPool } from '../../src/worker/bounded-pool.ts'
import { Reach } from '../../src/worker/reach.ts'
import { atEnd } from '../support/at-end.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { collectLog } from '../support/log-lines.ts'
import { testOnBothVersions } from '../support/on-both-versions.ts'

/** Falls silent just before a COMMIT, so that the server never hears it. */
function losingCommits(pool: pg.Pool, silence: () => void): ConnectionPool {
  return new Proxy(pool, {
    get(target, name) {
      if (name !== 'connect') return Reflect.get(target, name)
      return async () => {
        const client = await target.connect()
        const query = client.query.bind(client) as (statement: unknown, values?: unknown[]) => Promise<never>
        client.query = ((statement: { text: string }, values?: unknown[]) => {
          if (statement.text === 'COMMIT') silence()
          return query(statement, values)
        }) as never
        return client
      }
    },
  })
}

testOnBothVersions(
  'a statement of pg-boss whose COMMIT got lost in a silent network locks its job for no longer than a flush may take',
  async database => {
    await database.pool.query('CREATE TABLE job (id int PRIMARY KEY)')
    await database.pool.query('INSERT INTO job VALUES (1)')
    await using proxy = await startHalfOpenProxy(database.connectionString)
    const pool = new pg.Pool({ connectionString: proxy.connectionString, max: 1 })
    pool.on('error', () => {})
    atEnd(() => pool.end())
    const connections = new BoundedPool(
      losingCommits(pool, () => proxy.silence()),
      0.5,
      new Reach(collectLog().logger),
    )
    await assert.rejects(connections.query('DELETE FROM job'), { name: 'NoAnswerError' })
    // As another worker does. It waits until the server has ended the transaction of before.
    const other = await database.connect({ lock_timeout: 5_000 })
    const { rowCount } = await other.query('SELECT FROM job WHERE id = 1 FOR UPDATE')
    assert.equal(rowCount, 1)
  },
)
