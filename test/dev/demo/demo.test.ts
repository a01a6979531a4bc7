import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { createEmptyDatabase } from '../../support/database.ts'
import { until } from '../../support/poll.ts'
import { startProgram } from '../../support/process.ts'

const DEMO = 'dev/demo/demo.ts'

test('the demo shows marks turn into last_used_at, serves the dashboard, and Ctrl-C stops all of it', async () => {
  const demo = startProgram(DEMO, [], { group: true })
  const url = (await demo.line(/dashboard:/, { timeoutMs: 30_000 })).match(/http:\S+/)![0]
  const connectionString = (await demo.line(/database:/)).match(/postgresql:\S+/)![0]
  await demo.line(/flushed \d+ marks, .*[1-9]\d* workspaces updated/, { timeoutMs: 30_000 })

  const page = await fetch(url)
  assert.equal(page.status, 200)
  assert.match(await page.text(), /workspace-usage-flush/)
  const client = new pg.Client({ connectionString })
  await client.connect()
  const { rows } = await client.query('SELECT count(last_used_at)::int AS used FROM workspaces')
  await client.end()
  assert.ok(rows[0].used > 0)

  demo.signalGroup('SIGINT')
  assert.deepEqual(await demo.exited, { code: 0, signal: null })
  await until('the server is gone', async () => {
    const gone = new pg.Client({ connectionString })
    try {
      await gone.connect()
    } catch (error) {
      return (error as NodeJS.ErrnoException).code === 'ECONNREFUSED'
    }
    await gone.end()
    return false
  })
})

test('with DATABASE_URL, the demo makes up neither workspaces nor use, unless asked', async () => {
  const database = await createEmptyDatabase()
  const env = { DATABASE_URL: database.connectionString }
  const plain = startProgram(DEMO, [], { env })
  await plain.line(/nothing to flush/, { timeoutMs: 30_000 })
  plain.kill('SIGTERM')
  assert.deepEqual(await plain.exited, { code: 0, signal: null })
  assert.ok(!plain.stdout.includes(new URL(database.connectionString).password))
  const count = async () => {
    const { rows } = await database.pool.query('SELECT count(*)::int AS workspaces FROM workspaces')
    return rows[0].workspaces
  }
  assert.equal(await count(), 0)

  const asked = startProgram(DEMO, ['--demo'], { env })
  await asked.line(/calls of mark\(\)/, { timeoutMs: 30_000 })
  asked.kill('SIGTERM')
  assert.deepEqual(await asked.exited, { code: 0, signal: null })
  assert.ok((await count()) > 0)
})
