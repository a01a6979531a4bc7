import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { beforeEach, test } from 'node:test'
import { promisify } from 'node:util'
import { drain } from '../../src/flush/drain.ts'
import { createConsumerOfExamples } from '../support/consumer.ts'
import { createTestDatabase } from '../support/database.ts'
import { closeFlushGate } from '../support/flush-gate.ts'
import { closeMarkGate } from '../support/mark-gate.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { startProgram } from '../support/process.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { send, startUpstream, untilRefused } from '../support/upstream.ts'

const examples = createConsumerOfExamples()
const database = await createTestDatabase()
const { pool, connectionString } = database
await setPeriodLength(pool, 0.1)

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('the example proxy marks the workspace of each request, and on SIGTERM finishes what it has begun', async () => {
  const ids = await createWorkspaces(pool, 5)
  const upstream = await startUpstream()
  const { proxy, port } = await startProxy(upstream.url)

  const byPath = await send(port, `/w/${ids[0]}/file?line=7`, { method: 'PUT', body: 'text' })
  assert.deepEqual(byPath, { status: 201, body: `PUT /w/${ids[0]}/file?line=7 text` })
  const byHost = await send(port, '/', { host: `${ids[1]!.toUpperCase()}.workspaces.example` })
  assert.deepEqual(byHost, { status: 201, body: 'GET / ' })
  assert.equal((await send(port, '/w/no-workspace')).status, 404)
  await until('the marks are flushed', async () => {
    await drain(pool)
    return (await lastUsedAt(pool, ids.slice(0, 2))).every(used => used !== null)
  })

  // Marks can't be stored now, so the second one waits in the proxy. Workspaces answer after `release`.
  await using gate = await closeMarkGate(database)
  const release = upstream.hold()
  const inFlight = [send(port, `/w/${ids[2]}/slow`)]
  await upstream.untilHeld(1)
  inFlight.push(send(port, `/w/${ids[3]}/slow`))
  await upstream.untilHeld(2)
  proxy.kill('SIGTERM')
  await untilRefused(port)
  release()
  const answers = await Promise.all(inFlight)
  assert.deepEqual(
    answers.map(({ status }) => status),
    [201, 201],
  )
  await gate.open()
  assert.deepEqual(await proxy.untilExit(), { code: 0, signal: null })
  await until('the last marks are flushed', async () => {
    await drain(pool)
    return (await lastUsedAt(pool, ids.slice(2, 4))).every(used => used !== null)
  })
  const { rows } = await pool.query('SELECT DISTINCT source FROM workspace_usage')
  assert.deepEqual(rows, [{ source: 'proxy' }])
  assert.deepEqual(await lastUsedAt(pool, [ids[4]!]), [null])
})

test('the example proxy answers 502 for a workspace that does not answer, and still marks it', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const upstream = await startUpstream()
  await upstream.close()
  const { proxy, port } = await startProxy(upstream.url)
  assert.equal((await send(port, `/w/${id}/`)).status, 502)
  proxy.kill('SIGTERM')
  assert.deepEqual(await proxy.untilExit(), { code: 0, signal: null })
  assert.equal(await pendingCount(pool), 1)
})

test('the example service answers while a flush runs inside it, and on SIGTERM finishes that flush', async t => {
  const [id, unused] = await createWorkspaces(pool, 2)
  const periodEnd = await storeClosedMarks(pool, [id!], { source: 'ssh' })
  const gate = await closeFlushGate(database)
  const service = startProgram(join(examples, 'service-with-worker.ts'), [], {
    env: { DATABASE_URL: connectionString, PORT: '0', FLUSH_INTERVAL: '1' },
  })
  t.after(() => service.end())
  t.after(() => gate.open())
  const port = Number((await service.line(/"listening"/)).match(/"port":(\d+)/)![1])
  await gate.untilReached()
  const { status, body } = await send(port, `/workspaces/${id}`)
  const { last_used_at, source, pending } = JSON.parse(body)
  assert.deepEqual([status, source, pending], [200, 'ssh', true])
  assert.ok(Math.abs(Date.parse(last_used_at) - periodEnd.getTime()) <= 1, last_used_at)
  assert.equal(JSON.parse((await send(port, `/workspaces/${unused}`)).body).last_used_at, null)
  assert.equal((await send(port, '/workspaces/no-workspace')).status, 404)
  assert.deepEqual(await lastUsedAt(pool, [id!]), [null])

  service.kill('SIGTERM')
  await untilRefused(port)
  await gate.open()
  assert.deepEqual(await service.untilExit(), { code: 0, signal: null })
  assert.deepEqual(await lastUsedAt(pool, [id!]), [periodEnd])
  assert.equal(await pendingCount(pool), 0)
  assert.equal(service.lines(/updated workspaces last_used_at/).length, 1)
})

test('the example SQL marks one workspace, with and without a source, and many', async t => {
  const ids = await createWorkspaces(pool, 3)
  const variables = { workspace: ids[0]!, workspaces: `{${ids[2]},${ids[1]}}` }
  t.diagnostic(`run by ${await runSql('examples/mark-from-sql.sql', variables)}`)
  const { rows } = await pool.query(
    `SELECT source, array_agg(workspace_id ORDER BY workspace_id) AS ids FROM pending_usage
    GROUP BY source ORDER BY source`,
  )
  assert.deepEqual(rows, [
    { source: 'backup', ids: [ids[0]] },
    { source: 'psql', ids: [ids[0]] },
    { source: 'reindex', ids: [ids[1], ids[2]] },
  ])
  await until('the marks are flushed', async () => {
    await drain(pool)
    return (await lastUsedAt(pool, ids)).every(used => used !== null)
  })
})

async function startProxy(upstream: string) {
  const proxy = startProgram(join(examples, 'proxy-middleware.ts'), [], {
    env: { DATABASE_URL: connectionString, UPSTREAM: upstream, PORT: '0' },
  })
  return { proxy, port: Number((await proxy.line(/listening/)).match(/\d+/)![0]) }
}

/** Runs a file as psql does: with psql, or with pg if psql is not installed. Returns which one. */
async function runSql(file: string, variables: Record<string, string>): Promise<string> {
  const path = join(import.meta.dirname, '../..', file)
  const set = Object.entries({ ...variables, ON_ERROR_STOP: '1' }).map(entry => `--set=${entry.join('=')}`)
  const env = { PATH: process.env.PATH }
  try {
    await promisify(execFile)('psql', ['--no-psqlrc', ...set, `--file=${path}`, connectionString], { env })
    return 'psql'
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
  const client = await database.connect({ application_name: 'psql' })
  const literal = (_: string, name: string) => client.escapeLiteral(variables[name]!)
  await client.query((await readFile(path, 'utf8')).replaceAll(/:'(\w+)'/g, literal))
  return 'pg, for psql is not installed'
}
