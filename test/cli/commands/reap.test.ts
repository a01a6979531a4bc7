import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { beforeEach, test } from 'node:test'
import { createIdleWorkspaces } from '../../reaper/idle-workspaces.ts'
import { atEnd } from '../../support/at-end.ts'
import { commandLineUrl, runCommand, startCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'
import { until } from '../../support/poll.ts'

const database = await createTestDatabase()
const { pool, connectionString } = database
const env = { DATABASE_URL: await commandLineUrl(connectionString) }
const directory = mkdtempSync(path.join(tmpdir(), 'workspace-usage-reap-'))
atEnd(() => rmSync(directory, { recursive: true, force: true }))

/** Writes a program that stops a workspace, and returns its path. */
function program(name: string, lines: string): string {
  const file = path.join(directory, name)
  writeFileSync(file, `#!/bin/sh\n${lines}\n`, { mode: 0o755 })
  return file
}

const read = (name: string) => readFileSync(path.join(directory, name), 'utf8')
const reap = (...args: string[]) => runCommand(['reap', '--for', '1h', '--rate', '60000', ...args], { env })

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces, stopped_workspaces, pending_usage_reset CASCADE')
})

test('reap without --run stops nothing, and lists what would be stopped as text or as JSON', async () => {
  const [first, second] = await createIdleWorkspaces(pool, 2)
  await pool.query(`UPDATE workspaces SET last_used_at = '2020-01-02 03:04:05Z' WHERE id = $1`, [first])
  const text = await reap('--limit', '1')
  assert.equal(
    text.stdout.replace(/for \d+ d/, 'for AGE'),
    `would-stop  ${first}  2020-01-02 03:04:05Z  idle for AGE\n` +
      '1 workspace would be stopped by --run. The limit is reached; there may be more.\n',
  )
  assert.deepEqual([text.code, text.stderr], [0, ''])

  const { code, stdout } = await reap('--json')
  const { dryRun, idle, ended, refused, workspaces } = JSON.parse(stdout)
  assert.deepEqual([code, dryRun, idle, ended, refused], [0, true, 2, 'all', []])
  assert.deepEqual(
    workspaces.map((found: Record<string, unknown>) => [found.workspaceId, found.outcome]),
    [
      [first, 'would-stop'],
      [second, 'would-stop'],
    ],
  )
})

test('reap --run runs the program for each workspace without a shell, with the id as last argument and in WORKSPACE_ID', async () => {
  const ids = await createIdleWorkspaces(pool, 2)
  const file = program('stop.sh', `echo "$# $1 $2 $WORKSPACE_ID" >> ${directory}/told; echo output`)
  const { code, stdout, stderr } = await reap('--run', file, '--yes', '--', '--force $HOME')
  assert.equal(code, 0)
  assert.deepEqual(read('told'), ids.map(id => `2 --force $HOME ${id} ${id}\n`).join(''))
  assert.equal(stderr, 'output\noutput\n')
  const lines = stdout.split('\n')
  assert.match(lines[0]!, new RegExp(`^stopped     ${ids[0]}  .*  idle for 23 h$`))
  assert.equal(lines[2], '2 workspaces stopped, 0 failed, 0 in use again, 0 held')

  const again = await reap('--run', file, '--yes')
  assert.deepEqual(
    [again.code, again.stdout],
    [0, '0 workspaces stopped, 0 failed, 0 in use again, 0 held\n'],
  )
  assert.equal(JSON.parse((await reap('--run', file, '--yes', '--again', '--json')).stdout).stopped, 2)
})

test('reap ends with 1 if the program fails for a workspace, tells its exit code, and goes on', async () => {
  const [bad, good] = await createIdleWorkspaces(pool, 2)
  const file = program('some.sh', `[ "$1" != ${bad} ] || exit 3`)
  const { code, stdout, stderr } = await reap('--run', file, '--yes')
  assert.equal(code, 1)
  assert.match(
    stdout,
    new RegExp(`^failed      ${bad}.*\nstopped     ${good}.*\n1 workspace stopped, 1 failed,`),
  )
  assert.match(stderr, new RegExp(`^error: ".*some.sh" ended with the exit code 3 for workspace "${bad}"`))
  const json = JSON.parse((await reap('--run', file, '--yes', '--json')).stdout)
  assert.deepEqual([json.stopped, json.failed], [0, 1])
  assert.match(json.workspaces[0].error, /exit code 3/)
})

test('a program that takes too long is ended with what it has started, and its workspace is not stopped', async () => {
  await createIdleWorkspaces(pool, 1)
  const file = program('slow.sh', 'sleep 1000 & sleep 1000')
  const { code, stderr } = await reap('--run', file, '--yes', '--stop-timeout', '0.2')
  assert.equal(code, 1)
  assert.match(stderr, /did not end within 0\.2 s/)
  assert.deepEqual((await pool.query('SELECT FROM stopped_workspaces')).rows, [])
})

test('reap ends with 1 and runs nothing if use is not known completely, and says why', async () => {
  await createIdleWorkspaces(pool, 1)
  await pool.query('INSERT INTO pending_usage_reset (noticed_at) VALUES (now())')
  for (const args of [[], ['--json'], ['--run', program('no.sh', `touch ${directory}/ran`), '--yes']]) {
    const { code, stderr } = await reap(...args)
    assert.equal(code, 1)
    assert.match(
      stderr,
      /^refused: incomplete: Marks were lost: use is complete since .* Nothing is stopped meanwhile\.$/m,
    )
  }
  assert.throws(() => read('ran'), { code: 'ENOENT' })
})

test('SIGINT ends reap after the workspace that is being stopped', async () => {
  const [first] = await createIdleWorkspaces(pool, 2)
  const file = program(
    'wait.sh',
    `touch ${directory}/begun; until [ -e ${directory}/go ]; do sleep 0.05; done`,
  )
  const command = startCommand(['reap', '--for', '1h', '--run', file, '--yes'], { env })
  await until('the program runs', () => read('begun') === '')
  command.emit('SIGINT', 'SIGINT')
  await command.prints(/ending after the workspace that is being stopped/)
  writeFileSync(path.join(directory, 'go'), '')
  const { code, stdout } = await command.ended
  assert.equal(code, 130)
  assert.match(stdout, /1 workspace stopped, 0 failed/)
  const { rows } = await pool.query('SELECT workspace_id FROM stopped_workspaces')
  assert.deepEqual(rows, [{ workspace_id: first }])
})

test('a second SIGINT ends the program that is under way, and its workspace is not stopped', async () => {
  await createIdleWorkspaces(pool, 2)
  const file = program('long.sh', `touch ${directory}/long; sleep 1000`)
  const command = startCommand(['reap', '--for', '1h', '--run', file, '--yes', '--json'], { env })
  await until('the program runs', () => read('long') === '')
  command.emit('SIGINT', 'SIGINT')
  await command.prints(/ending after/)
  command.emit('SIGINT', 'SIGINT')
  const { code, stdout } = await command.ended
  assert.equal(code, 130)
  const { stopped, failed, ended } = JSON.parse(stdout)
  assert.deepEqual([stopped, failed, ended], [0, 1, 'aborted'])
})

test('reap asks before it runs a program, and refuses wrong usage', async () => {
  await createIdleWorkspaces(pool, 1)
  const asked = startCommand(['reap', '--for', '30m', '--run', '/bin/true'], { env, terminal: true })
  await asked.prints(
    /This runs \/bin\/true for up to 500 workspaces that nobody has used for 30m\.\nType yes/,
  )
  asked.stdin.write('no\n')
  assert.equal((await asked.ended).code, 1)

  const wrong: [string[], RegExp][] = [
    [['--yes'], /--yes needs --run/],
    [['x'], /arguments of a program need --run/],
    [['--limit', '0'], /Allowed: an integer from 1 to 1000000/],
    [['--run', '/bin/true'], /there is no terminal on which to confirm this: add --yes/],
    [['--run', `${directory}/missing`, '--yes'], /--run: .*missing can't be started: .*ENOENT/],
  ]
  for (const [args, message] of wrong) {
    const { code, stderr } = await reap(...args)
    assert.equal(code, 2, args.join(' '))
    assert.match(stderr, message)
  }
})
