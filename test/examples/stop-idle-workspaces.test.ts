import assert from 'node:assert/strict'
import { join } from 'node:path'
import { test } from 'node:test'
import { markUsage } from '../../src/mark/mark.ts'
import { createIdleWorkspaces } from '../reaper/idle-workspaces.ts'
import { createConsumerOfExamples } from '../support/consumer.ts'
import { createTestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { runProgram } from '../support/process.ts'

/* What a mark prevents, and when nothing is stopped, is tested in test/reaper/. */

const example = join(createConsumerOfExamples(), 'stop-idle-workspaces.ts')
const database = await createTestDatabase()
const { pool } = database
const run = (...args: string[]) =>
  runProgram(example, args, { env: { DATABASE_URL: database.connectionString } })

test('the example stop-idle-workspaces prints what it would stop, and with --yes stops it once', async () => {
  const [idle, used] = await createIdleWorkspaces(pool, 2)
  await markUsage(pool, used!)
  const listener = await database.connect()
  const heard: unknown[] = []
  listener.on('notification', ({ payload }) => heard.push(payload))
  await listener.query('LISTEN stop_workspace')

  assert.deepEqual(await run('12h'), {
    code: 0,
    signal: null,
    stdout: `would-stop ${idle}\nnot used for 12h: 1, stopped: 0\n`,
    stderr: '',
  })
  assert.deepEqual(await run('12h', '--yes'), {
    code: 0,
    signal: null,
    stdout: `stopped ${idle}\nnot used for 12h: 1, stopped: 1\n`,
    stderr: '',
  })
  assert.equal((await run('12h', '--yes')).stdout, 'not used for 12h: 0, stopped: 0\n')
  await until('the notification is heard', () => heard.length > 0)
  assert.deepEqual(heard, [idle])
})

test('the example stop-idle-workspaces stops nothing after a loss of marks, and says why', async () => {
  await createIdleWorkspaces(pool, 1)
  await pool.query('INSERT INTO pending_usage_reset (noticed_at) VALUES (now())')
  const { code, stdout, stderr } = await run('1h', '--yes')
  assert.equal(code, 0)
  assert.equal(stdout, 'not used for 1h: 0, stopped: 0\n')
  assert.match(stderr, /^nothing is stopped: Marks were lost: use is complete since /)
})
