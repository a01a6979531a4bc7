import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { PgBoss } from 'pg-boss'
import { FLUSH_QUEUE } from '../../../src/worker/queue.ts'
import { commandLineUrl, runCommand } from '../../support/command-line.ts'
import { createEmptyDatabase, createTestDatabase } from '../../support/database.ts'

const ID = randomUUID()
/** Nothing listens on this port. */
const UNREACHABLE = await commandLineUrl('postgres://127.0.0.1:1/nowhere')

const refused = { code: 1, stdout: '' }

for (const args of [['migrate'], ['mark', ID], ['flush'], ['status'], ['worker']]) {
  test(`workspace-usage ${args[0]} ends with 1 if it can't reach the server`, async () => {
    assert.deepEqual(await runCommand(args, { env: { DATABASE_URL: UNREACHABLE } }), {
      ...refused,
      stderr:
        "error: can't reach the database at 127.0.0.1:1: connection refused (ECONNREFUSED). Check " +
        '--database-url (DATABASE_URL), and that the server runs and accepts connections from here.\n',
    })
  })
}

test('a command ends with 1 if the database does not exist', async () => {
  const { connectionString } = await createEmptyDatabase()
  const url = new URL(await commandLineUrl(connectionString))
  url.pathname = '/no-such-database'
  assert.deepEqual(await runCommand(['status'], { env: { DATABASE_URL: url.href } }), {
    ...refused,
    stderr: 'error: the database refused: database "no-such-database" does not exist (SQLSTATE 3D000)\n',
  })
})

test('a command ends with 1 if the database is not migrated, and names the command that migrates', async () => {
  const { connectionString } = await createEmptyDatabase()
  const env = { DATABASE_URL: await commandLineUrl(connectionString) }
  const noTable = 'relation "pending_usage" does not exist'
  const missing = {
    mark: noTable,
    flush: noTable,
    status: noTable,
    worker: 'pg-boss is not installed',
  }
  for (const [command, what] of Object.entries(missing)) {
    assert.deepEqual(await runCommand(command === 'mark' ? ['mark', ID] : [command], { env }), {
      ...refused,
      stderr:
        `error: this database is not migrated: ${what}. ` +
        'Run `workspace-usage migrate` against it first.\n',
    })
  }
})

const ANOTHER_POLICY =
  'error: the pg-boss queue "workspace-usage-flush" has the policy "stately"; expected "short". ' +
  "pg-boss can't change the policy of a queue: stop its workers, delete the queue " +
  "(pg-boss: deleteQueue('workspace-usage-flush'); pending marks stay where they are), " +
  'then run `workspace-usage migrate`.\n'

async function withAnotherPolicy(connectionString: string): Promise<{ DATABASE_URL: string }> {
  const boss = new PgBoss({ connectionString, supervise: false, schedule: false })
  await boss.start()
  await boss.deleteQueue(FLUSH_QUEUE)
  await boss.createQueue(FLUSH_QUEUE, { policy: 'stately' })
  await boss.stop({ graceful: false })
  return { DATABASE_URL: await commandLineUrl(connectionString) }
}

test('worker and migrate end with 1 if the flush queue exists with another policy', async () => {
  const { connectionString } = await createTestDatabase()
  const env = await withAnotherPolicy(connectionString)
  // A migrate that fails breaks the connections of pg-boss, mostly in the middle of a statement. It is repeated, because
  // that must never be told as an error of pg-boss.
  for (const command of ['worker', ...Array<string>(5).fill('migrate')]) {
    assert.deepEqual(await runCommand([command], { env }), { ...refused, stderr: ANOTHER_POLICY })
  }
})

test("migrate ends with 1 if the table workspaces can't be adopted", async () => {
  const { connectionString, pool } = await createEmptyDatabase()
  await pool.query('CREATE TABLE workspaces (id numeric PRIMARY KEY, last_used_at timestamptz)')
  const env = { DATABASE_URL: await commandLineUrl(connectionString) }
  const { code, stdout, stderr } = await runCommand(['migrate', '--json'], { env })
  assert.match(
    stderr,
    /^error: the existing table "workspaces" can't be adopted: column "id" has type numeric; /,
  )
  assert.deepEqual({ code, stdout }, refused)
})
