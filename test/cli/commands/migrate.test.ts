import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { commandLineUrl, runCommand, startCommand } from '../../support/command-line.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../../support/database.ts'

test('migrate applies all migrations at once, takes them back one by one, and says what it did', async () => {
  const database = await createEmptyDatabase()
  const env = await environmentOf(database)
  const names = readdirSync(path.join(import.meta.dirname, '../../../migrations'))
    .map(file => path.basename(file, '.ts'))
    .sort()

  const up = await runCommand(['migrate'], { env })
  assert.equal(up.stderr, '')
  assert.match(
    up.stdout,
    /^schema public\n(migrated \S+\n)+created the empty table "workspaces".+\n.+ workspace-usage migrate --table\.\nqueue workspace-usage-flush, schedule "\* \* \* \* \*", pg-boss schema \d+\n$/,
  )
  assert.deepEqual(
    [...up.stdout.matchAll(/^migrated (\S+)$/gm)].map(([, name]) => name),
    names,
  )
  assert.equal(up.code, 0)

  const down = await runCommand(['migrate', '--down'], { env })
  assert.deepEqual(down, { code: 0, stdout: `took back ${names.pop()}\n`, stderr: '' })

  const json = await runCommand(['migrate', '--down', '--json'], { env })
  assert.deepEqual(JSON.parse(json.stdout), { reverted: names.pop() })

  for (const name of names.toReversed()) {
    const { stdout } = await runCommand(['migrate', '--down'], { env })
    assert.equal(stdout, `took back ${name}\n`)
  }
  const bottom = await runCommand(['migrate', '--down'], { env })
  assert.deepEqual(bottom, { code: 0, stdout: 'nothing to take back\n', stderr: '' })
})

test('migrate --json prints the migrations that ran and the queue', async () => {
  const env = await environmentOf(await createTestDatabase())
  const { code, stdout } = await runCommand(['migrate', '--json'], { env })
  const { applied, queue } = JSON.parse(stdout)
  assert.deepEqual(applied, [])
  assert.deepEqual(Object.keys(queue), ['queue', 'schemaVersion', 'cron'])
  assert.equal(code, 0)
})

test('migrate --logged and --unlogged say what a crash costs then, and exclude each other and --down', async () => {
  const env = await environmentOf(await createTestDatabase())
  const logged = await runCommand(['migrate', '--logged'], { env })
  assert.match(logged.stdout, /^marks survive a crash: their tables are LOGGED$/m)
  assert.equal(JSON.parse((await runCommand(['migrate', '--json'], { env })).stdout).logged, true)
  const unlogged = await runCommand(['migrate', '--unlogged'], { env })
  assert.match(unlogged.stdout, /^marks are lost by a crash: their tables are UNLOGGED$/m)
  for (const other of ['--unlogged', '--down']) {
    assert.equal((await runCommand(['migrate', '--logged', other], { env })).code, 2)
  }
})

test('no environment variable makes migrate take anything back', async () => {
  const env = await environmentOf(await createTestDatabase())
  const variables = Object.fromEntries(
    ['DOWN', 'ALL', 'YES', 'MIGRATE_DOWN', 'MIGRATE_ALL'].map(name => [`WORKSPACE_USAGE_${name}`, '1']),
  )
  const { code, stdout } = await runCommand(['migrate'], { env: { ...env, ...variables } })
  assert.equal(code, 0)
  assert.match(stdout, /^schema public\nthe schema is up to date\n/)
})

test('migrate --down --all --yes removes everything of ours and lists it, and a second run finds nothing', async () => {
  const database = await createTestDatabase()
  const env = await environmentOf(database)
  const first = await runCommand(['migrate', '--down', '--all', '--yes'], { env })
  assert.deepEqual([first.code, first.stderr], [0, ''])
  for (const object of ['table public.pending_usage', 'view public.workspace_activity', 'schema pgboss']) {
    assert.ok(first.stdout.includes(`dropped ${object}\n`), first.stdout)
  }
  assert.equal(await tables(database), 0)

  const again = await runCommand(['migrate', '--down', '--all', '--yes'], { env })
  assert.deepEqual(again, { code: 0, stdout: 'nothing to remove\n', stderr: '' })
})

test('migrate --down --all names what it leaves and why, in text and in JSON', async () => {
  const database = await createTestDatabase()
  await database.pool.query('INSERT INTO workspaces DEFAULT VALUES; CREATE TABLE pgboss.of_somebody_else ()')
  const env = await environmentOf(database)
  const { code, stdout } = await runCommand(['migrate', '--down', '--all', '--yes', '--json'], { env })
  const { dropped, left } = JSON.parse(stdout) as {
    dropped: string[]
    left: { object: string; reason: string }[]
  }
  assert.equal(code, 0)
  assert.ok(dropped.includes('table public.workspace_usage'))
  const objects = left.map(({ object }) => object).sort()
  assert.deepEqual(objects, ['schema pgboss', 'table public.workspaces'])

  const text = (await runCommand(['migrate', '--down', '--all', '--yes'], { env })).stdout
  for (const { object, reason } of left.filter(({ object }) => text.includes(object))) {
    assert.ok(text.includes(`left ${object}: ${reason}\n`), text)
  }
  assert.match(text, /^nothing to remove\n/)
})

test('migrate --down --all asks once on a terminal, and continues only after yes', async () => {
  const database = await createTestDatabase()
  const before = await tables(database)
  for (const input of ['\n', 'y\n', 'no\nyes\n', '']) {
    const { code, stdout, stderr } = await runCommand(['migrate', '--down', '--all'], {
      env: await environmentOf(database),
      input,
      terminal: true,
    })
    assert.match(
      stderr,
      /^This removes everything of workspace-usage .*\nType yes to go on:\nerror: not confirmed/,
    )
    assert.deepEqual([code, stdout], [1, ''])
  }
  assert.equal(await tables(database), before)

  const command = startCommand(['migrate', '--down', '--all'], {
    env: await environmentOf(database),
    terminal: true,
  })
  await command.prints(/Type yes to go on:/)
  command.stdin.write('yes\n')
  assert.equal((await command.ended).code, 0)
  assert.equal(await tables(database), 0)
})

test('migrate --down --all needs --yes without a terminal, --all needs --down, and --yes needs both', async () => {
  const database = await createTestDatabase()
  const env = await environmentOf(database)
  const before = await tables(database)
  const cases: [string[], RegExp][] = [
    [['--down', '--all'], /^error: there is no terminal on which to confirm this: add --yes\. This removes/],
    [['--all', '--yes'], /^error: --all needs --down\n/],
    [['--down', '--yes'], /^error: --yes needs --down --all\n/],
  ]
  for (const [args, message] of cases) {
    const { code, stdout, stderr } = await runCommand(['migrate', ...args], { env, input: 'yes\n' })
    assert.deepEqual([code, stdout], [2, ''])
    assert.match(stderr, message)
  }
  assert.equal(await tables(database), before)
})

async function environmentOf({ connectionString }: TestDatabase): Promise<{ DATABASE_URL: string }> {
  return { DATABASE_URL: await commandLineUrl(connectionString) }
}

async function tables({ pool }: TestDatabase): Promise<number> {
  const { rows } = await pool.query(
    `SELECT FROM pg_class WHERE relkind IN ('r', 'v', 'p')
      AND relnamespace::regnamespace::text NOT IN ('pg_catalog', 'information_schema', 'pg_toast')`,
  )
  return rows.length
}

test('migrate --table adopts a table by names as they are written, says what it did, and status tells it too', async () => {
  const database = await createEmptyDatabase()
  await database.pool.query(
    'CREATE SCHEMA app; CREATE TABLE app."My.Boxes" (key bigint PRIMARY KEY, "usedAt" timestamptz, born timestamptz, gone boolean)',
  )
  const env = await environmentOf(database)
  const names = ['--table', 'app."My.Boxes"', '--id-column', 'key', '--last-used-column', 'usedAt']
  const all = [...names, '--created-column', 'born', '--where', 'NOT gone']
  const table =
    /^(table +)?workspaces are the rows of app\."My\.Boxes" where .+ \(id: key, last_used_at: usedAt, created_at: born\)$/m

  const first = await runCommand(['migrate', ...all], { env })
  assert.deepEqual([first.code, first.stderr], [0, ''])
  assert.match(first.stdout, /^created the view "workspaces"$/m)
  assert.match(first.stdout, table)
  const second = await runCommand(['migrate', ...all], { env })
  assert.match(second.stdout, /^the view "workspaces" is up to date$/m)
  const third = await runCommand(['migrate', ...names, '--json'], { env })
  const { adoption, workspaces } = JSON.parse(third.stdout)
  assert.deepEqual(
    [adoption, workspaces.table, workspaces.where, workspaces.createdColumn],
    ['changed', 'app."My.Boxes"', null, null],
  )
  const variables = {
    WORKSPACE_USAGE_TABLE: names[1]!,
    WORKSPACE_USAGE_ID_COLUMN: 'key',
    WORKSPACE_USAGE_LAST_USED_COLUMN: 'usedAt',
    WORKSPACE_USAGE_CREATED_COLUMN: 'born',
    WORKSPACE_USAGE_WHERE: 'NOT gone',
  }
  const byVariables = await runCommand(['migrate'], { env: { ...env, ...variables } })
  assert.match(byVariables.stdout, /^changed the view "workspaces"$/m)
  assert.match((await runCommand(['status'], { env })).stdout, table)

  const down = await runCommand(['migrate', '--down', '--all', '--yes'], { env: { ...env, ...variables } })
  assert.match(down.stdout, /^dropped view public\.workspaces$/m)
  assert.equal(down.code, 0)
})

test('migrate --table ends with 1 if the table does not fit, and with 2 if the options do not', async () => {
  const database = await createEmptyDatabase()
  const env = await environmentOf(database)
  const missing = await runCommand(['migrate', '--table', 'app.boxes'], { env })
  assert.match(missing.stderr, /^error: the table app\.boxes can't be adopted: does not exist; /)
  assert.equal(missing.code, 1)
  for (const options of [
    ['--where', 'true'],
    ['--table', ''],
    ['--table', 'a', '--id-column', '"'],
    ['--table', 'a', '--down'],
  ]) {
    assert.equal((await runCommand(['migrate', ...options], { env })).code, 2, options.join(' '))
  }
  assert.match(
    (await runCommand(['migrate', '--help'], { env })).stdout,
    /The first dot of --table ends the schema/,
  )
})
