import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { suite, test } from 'node:test'
import { PgBoss } from 'pg-boss'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { commandLineUrl, runCommand } from '../support/command-line.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'

const ID = randomUUID()
/** Nobody listens there. */
const UNREACHABLE = await commandLineUrl('postgres://127.0.0.1:1/nowhere')

suite('wrong usage ends with 2, before anything is sent', { concurrency: 2 }, () => {
  const hint = '(--help tells what is allowed)'
  const cases: { args: string[]; env?: Record<string, string>; stderr: string | RegExp }[] = [
    { args: [], stderr: /^Usage: workspace-usage / },
    { args: ['flsh'], stderr: `error: unknown command 'flsh'\n(Did you mean flush?)\n${hint}\n` },
    {
      args: ['flush', '--bath-size=1'],
      env: { DATABASE_URL: UNREACHABLE },
      stderr: `error: unknown option '--bath-size=1'\n(Did you mean --batch-size?)\n${hint}\n`,
    },
    {
      args: ['status'],
      stderr: `error: required option '-d, --database-url <url>' not specified\n${hint}\n`,
    },
    {
      args: ['status'],
      env: { DATABASE_URL: '' },
      stderr: `error: required option '-d, --database-url <url>' not specified\n${hint}\n`,
    },
    {
      // Where one stands in the wrong place, commander repeats it.
      args: ['status', 'postgres://somebody:secret@127.0.0.1/x'],
      env: { DATABASE_URL: UNREACHABLE },
      stderr: /^error: .* got 1(: postgres:\/\/somebody:\*\*\*@127.0.0.1\/x)?\.\n/,
    },
    {
      args: ['postgres://somebody:secret@127.0.0.1/x'],
      stderr: /^error: unknown command 'postgres:\/\/somebody:\*\*\*@127.0.0.1\/x'\n/,
    },
    {
      args: ['mark', ID, '42'],
      env: { DATABASE_URL: UNREACHABLE },
      stderr:
        'error: not a UUID: "42". A workspace id has the form 00000000-0000-0000-0000-000000000000, ' +
        'in upper or lower case; pass the value of workspaces.id.\n',
    },
    {
      args: ['mark', ID, '--source', ''],
      env: { DATABASE_URL: UNREACHABLE },
      stderr:
        'error: not a source: "". A source is a text of 1 to 63 characters without NUL, and one of few ' +
        '(such as "ssh" or "vscode"): shorten it, or leave it out to use application_name.\n',
    },
    {
      args: ['flush', '--batch-size', '2k'],
      env: { DATABASE_URL: UNREACHABLE },
      stderr:
        "error: option '--batch-size <marks>' argument '2k' is invalid. " +
        `"2k" is not a number.\n${hint}\n`,
    },
    {
      args: ['flush', '--batch-size', '0'],
      env: { DATABASE_URL: UNREACHABLE },
      stderr: 'error: batchSize is 0; allowed: an integer from 1 to 100000.\n',
    },
    {
      args: ['flush', '--sources', 'maybe'],
      env: { DATABASE_URL: UNREACHABLE },
      stderr: `error: option '--sources <yes|no>' argument 'maybe' is invalid. Allowed: yes, no.\n${hint}\n`,
    },
    {
      args: ['worker'],
      env: { DATABASE_URL: UNREACHABLE, WORKSPACE_USAGE_FLUSH_INTERVAL: '90' },
      stderr:
        'error: flushIntervalSeconds is 90; allowed: 1 to 59, or whole minutes that divide an hour: ' +
        '60, 120, 180, 240, 300, 360, 600, 720, 900, 1200, 1800, 3600.\n',
    },
    {
      args: ['status'],
      env: { DATABASE_URL: UNREACHABLE.replace(':1/', ':one/') },
      stderr:
        'error: connectionString is "(not shown, it may hold a password)"; allowed: a URL such as ' +
        'postgres://user@host:5432/database.\n',
    },
  ]
  for (const { args, env = {}, stderr } of cases) {
    const given = Object.keys(env).map(name => `${name}=… `)
    test(`${given.join('')}workspace-usage ${args.join(' ').replace(ID, '<id>')}`, async () => {
      const result = await runCommand(args, { env })
      if (typeof stderr === 'string') assert.equal(result.stderr, stderr)
      else assert.match(result.stderr, stderr)
      assert.equal(result.stdout, '')
      assert.equal(result.code, 2)
    })
  }
})

suite('a failure ends with 1', { concurrency: 2 }, () => {
  const refused = { code: 1, stdout: '' }

  for (const args of [['migrate'], ['mark', ID], ['flush'], ['status'], ['worker']]) {
    test(`where ${args[0]} can not reach the server`, async () => {
      assert.deepEqual(await runCommand(args, { env: { DATABASE_URL: UNREACHABLE } }), {
        ...refused,
        stderr:
          "error: can't reach the database at 127.0.0.1:1: connection refused (ECONNREFUSED). Check " +
          '--database-url (DATABASE_URL), and that the server runs and accepts connections from here.\n',
      })
    })
  }

  test('where there is no such database', async () => {
    const { connectionString } = await createEmptyDatabase()
    const url = new URL(await commandLineUrl(connectionString))
    url.pathname = '/no-such-database'
    assert.deepEqual(await runCommand(['status'], { env: { DATABASE_URL: url.href } }), {
      ...refused,
      stderr: 'error: the database refused: database "no-such-database" does not exist (SQLSTATE 3D000)\n',
    })
  })

  test('where the database is not migrated', async () => {
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

  test('where the flush queue exists with another policy', async () => {
    const { connectionString } = await createTestDatabase()
    const boss = new PgBoss({ connectionString, supervise: false, schedule: false })
    await boss.start()
    await boss.deleteQueue(FLUSH_QUEUE)
    await boss.createQueue(FLUSH_QUEUE, { policy: 'stately' })
    await boss.stop({ graceful: false })

    const env = { DATABASE_URL: await commandLineUrl(connectionString) }
    for (const command of ['worker', 'migrate']) {
      assert.deepEqual(await runCommand([command], { env }), {
        ...refused,
        stderr:
          'error: the pg-boss queue "workspace-usage-flush" has the policy "stately"; expected "short". ' +
          "pg-boss can't change the policy of a queue: stop its workers, delete the queue " +
          "(pg-boss: deleteQueue('workspace-usage-flush'); pending marks stay where they are), " +
          'then run `workspace-usage migrate`.\n',
      })
    }
  })

  test('where the table workspaces can not be adopted', async () => {
    const { connectionString, pool } = await createEmptyDatabase()
    await pool.query('CREATE TABLE workspaces (id bigint PRIMARY KEY, last_used_at timestamptz)')
    const env = { DATABASE_URL: await commandLineUrl(connectionString) }
    const { code, stdout, stderr } = await runCommand(['migrate', '--json'], { env })
    assert.match(
      stderr,
      /^error: the existing table "workspaces" can't be adopted: column "id" has type bigint; /,
    )
    assert.deepEqual({ code, stdout }, refused)
  })
})
