import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import pg from 'pg'
import { explainUsage } from '../../src/activity/explain.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { StandbyError } from '../../src/errors.ts'
import { runCommand } from '../support/command-line.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, lastUsedAt } from '../support/seed.ts'
import { startServer } from '../support/server.ts'
import { startStandby, untilCaughtUp } from '../support/standby.ts'
import { urlOf } from '../support/template.ts'

test('explain and idle fail on a standby and say so, and last_used_at can be read there', async () => {
  const primary = await startServer()
  const database = await createTestDatabase({ on: primary.connectionString })
  const server = await startStandby(primary)
  const connectionString = urlOf(server.connectionString, database.name)
  const standby = new pg.Pool({ connectionString, max: 2 })
  try {
    const [id] = await createWorkspaces(database.pool, 1)
    await untilCaughtUp(database.pool, standby)

    assert.deepEqual(await lastUsedAt(standby, [id!]), [null])
    await assert.rejects(explainUsage(standby, id!), new StandbyError())
    await assert.rejects(idleWorkspaces(standby, { idleForSeconds: 1 }).next(), new StandbyError())
    const serializable = `${connectionString}?options=-c%20default_transaction_isolation%3Dserializable`
    const strict = new pg.Pool({ connectionString: serializable, max: 1 })
    await assert.rejects(explainUsage(strict, id!), new StandbyError())
    await strict.end()
    const env = { DATABASE_URL: connectionString }
    for (const args of [
      ['explain', randomUUID()],
      ['idle', '--for', '1d', '--json'],
    ]) {
      const result = await runCommand(args, { env })
      assert.deepEqual(result, { code: 1, stdout: '', stderr: `error: ${new StandbyError().message}\n` })
    }
  } finally {
    await standby.end()
  }
})
