import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { beforeEach, test } from 'node:test'
import { commandLineUrl, runCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'

const { pool, connectionString } = await createTestDatabase()
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

beforeEach(async () => {
  await pool.query(`TRUNCATE source_usage, pending_usage;
    INSERT INTO source_usage (source, regular_since, last_used_at) VALUES
      ('ssh', now() - interval '3 days', now() - interval '2 hours'),
      (E'vs\\ncode', now() - interval '1 hour', now() - interval '5 minutes')`)
})

test('sources lists who marks, whether that is regular, and since when it is silent', async () => {
  const { code, stdout, stderr } = await runCommand(['sources'], { env })
  assert.deepEqual([code, stderr], [0, ''])
  const time = String.raw`\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ`
  assert.match(stdout, new RegExp(`│ ssh +│ yes +│ 0 +│ ${time} │ 2 h +│ ${time} +│`))
  assert.match(
    stdout,
    new RegExp(String.raw`│ vs\\u\{a\}code │ yes +│ 0 +│ ${time} │ 5 min +│ not regular +│`),
  )
})

test('sources --json lists the same, sorted as in the table', async () => {
  const sources = JSON.parse((await runCommand(['sources', '--json'], { env })).stdout)
  const regular = new Map(sources.map(({ source, regular }: never) => [source, regular]))
  assert.deepEqual([regular.get('ssh'), regular.get('vs\ncode')], [true, false])
  assert.ok(sources.every(({ silentSeconds }: { silentSeconds: number }) => silentSeconds >= 300))
})

test('the command that the verdict names retires a source of any name, pasted from the output of status', async () => {
  const names = ["it's", 'two  spaces', 'tab\there', 'line\nfeed', 'zero\u200bwidth', '-x']
  await pool.query(
    `INSERT INTO source_usage SELECT name, now() - interval '3 days', now() - interval '2 hours' FROM unnest($1::text[]) name`,
    [names],
  )
  const { stderr } = await runCommand(['status', '--check'], { env })
  const words = [...stderr.matchAll(/workspace-usage sources --retire (.+)/g)].map(([, word]) => word!)
  assert.equal(words.length, names.length + 1)
  for (const word of words) {
    const name = execFileSync('bash', ['-c', `printf %s ${word}`]).toString()
    const { code, stderr } = await runCommand(['sources', '--retire', name], { env })
    assert.deepEqual([code, stderr], [0, ''], word)
  }
})

test('sources --retire forgets a source, and an unknown one is an error that names the nearest', async () => {
  const wrong = await runCommand(['sources', '--retire', 'shh'], { env })
  assert.deepEqual(wrong, {
    code: 1,
    stdout: '',
    stderr: 'error: no such source: "shh". Did you mean "ssh"? "workspace-usage sources" lists them.\n',
  })
  assert.deepEqual(await runCommand(['sources', '--retire', 'ssh'], { env }), {
    code: 0,
    stdout: 'retired ssh\n',
    stderr: '',
  })
  const left = await runCommand(['sources', '--retire', 'vs\ncode', '--json'], { env })
  assert.deepEqual(JSON.parse(left.stdout), { retired: 'vs\ncode' })
  assert.deepEqual(await runCommand(['sources'], { env }), {
    code: 0,
    stdout: 'no sources yet\n',
    stderr: '',
  })
  const again = await runCommand(['sources', '--retire', 'ssh'], { env })
  assert.equal(again.code, 1)
  assert.match(again.stderr, /There is none yet\./)
})

test('sources ignore lets a source no longer count, and sources count undoes it', async () => {
  const ignored = await runCommand(['sources', 'ignore', 'vs\ncode'], { env })
  assert.deepEqual(ignored, { code: 0, stdout: 'vs\\u{a}code does not count any more\n', stderr: '' })
  assert.match((await runCommand(['sources'], { env })).stdout, /│ vs\\u\{a\}code │ no +│/)
  const again = await runCommand(['sources', '--json', 'ignore', 'vs\ncode'], { env })
  assert.deepEqual(JSON.parse(again.stdout), { ignored: 'vs\ncode', already: true })
  assert.match(
    (await runCommand(['sources', 'ignore', 'vs\ncode'], { env })).stdout,
    /does not count already/,
  )
  const counted = await runCommand(['sources', 'count', 'vs\ncode', '--json'], { env })
  assert.deepEqual(JSON.parse(counted.stdout), { counted: 'vs\ncode', already: false, restored: 0 })
  const twice = await runCommand(['sources', 'count', 'vs\ncode'], { env })
  assert.deepEqual(twice, { code: 0, stdout: 'vs\\u{a}code counts already\n', stderr: '' })
})

test('a source that does not count can not be retired, and the error tells the command that helps', async () => {
  for (const name of ["it's", '-x', 'line\nfeed']) {
    await pool.query('INSERT INTO source_usage VALUES ($1, now(), now(), false)', [name])
    const { code, stdout, stderr } = await runCommand(['sources', '--retire', name], { env })
    assert.deepEqual([code, stdout], [1, ''])
    const word = stderr.match(/workspace-usage sources count (.+)\n/)![1]!
    const words = execFileSync('bash', ['-c', `printf '%s\\0' ${word}`])
      .toString()
      .split('\0')
      .slice(0, -1)
    assert.equal((await runCommand(['sources', 'count', ...words], { env })).code, 0, word)
    assert.equal((await runCommand(['sources', '--retire', name], { env })).code, 0)
  }
})

test('wrong words after sources are errors that say what is allowed', async () => {
  const cases: [string[], number, RegExp][] = [
    [['sources', 'ignore'], 2, /name the source: sources ignore <source>/],
    [['sources', 'count'], 2, /name the source: sources count <source>/],
    [['sources', 'forget', 'ssh'], 2, /Allowed: ignore, count/],
    [['sources', 'ignore', 'ssh', 'vscode'], 2, /too many arguments/],
    [['sources', 'ignore', 'ssh', '--retire', 'ssh'], 2, /--retire can't follow ignore/],
    [['sources', 'ignore', 'shh'], 1, /^error: no such source: "shh"\. Did you mean "ssh"\?/],
    [['sources', 'count', 'code'], 1, /^error: no such source: "code"/],
  ]
  for (const [args, code, pattern] of cases) {
    const ended = await runCommand(args, { env })
    assert.deepEqual([ended.code, ended.stdout], [code, ''], args.join(' '))
    assert.match(ended.stderr, pattern)
  }
})
