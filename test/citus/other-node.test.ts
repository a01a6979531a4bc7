import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { flush } from '../../src/flush/flush.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { runCommand } from '../support/command-line.ts'
import { withClusterDatabase } from './support/cluster-database.ts'

const QUIET = { debug() {}, info() {}, warn() {}, error() {} }

await withClusterDatabase({}, ({ workers: [connectionString] }) => {
  const wanted = { name: 'NotCoordinatorError', message: /Connect to the coordinator/ }

  test('a flush, a worker and a migration on another node say that they need the coordinator', async () => {
    const pool = new pg.Pool({ connectionString, max: 2 })
    await assert.rejects(flush(pool), wanted)
    await pool.end()
    await assert.rejects(startFlushWorker({ database: connectionString!, logger: QUIET }), wanted)
    await assert.rejects(migrate({ connectionString: connectionString! }), wanted)
  })

  test('the commands say it too', async () => {
    for (const args of [['flush'], ['status'], ['worker'], ['migrate'], ['migrate', '--citus']]) {
      const { code, stderr } = await runCommand(args, { env: { DATABASE_URL: connectionString! } })
      assert.equal(code, 1, args.join(' '))
      assert.match(stderr, /Connect to the coordinator/, args.join(' '))
    }
  })
})
