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
  assert.match(stdout, new RegExp(`│ ssh +│ ${time} │ 2 h +│ ${time} +│`))
  assert.match(stdout, new RegExp(String.raw`│ vs\\u\{a\}code │ ${time} │ 5 min +│ not regular +│`))
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
