import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { blocksOf } from '../docs/markdown.ts'
import { atEnd } from '../support/at-end.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts'
import { heardPool } from '../support/heard-pool.ts'
import { collectLog } from '../support/log-lines.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole, type LoginRole } from '../support/roles.ts'
import { catalogObjects } from '../support/schema-dump.ts'
import { createWorkspaces, lastUsedAt } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

const NAME =
  'the steps of the page move a database in use to another schema, and marks of before and after are flushed'

test(NAME, async () => moveOn(await testServer()))

test(`on PostgreSQL 15, ${NAME}`, async t => {
  const server = await testServer15()
  if (server === null) return t.skip(POSTGRES_15_MISSING)
  await moveOn(server)
})

async function moveOn(server: string): Promise<void> {
  const gateway = await createLoginRole(server, 'gateway')
  const flusher = await createLoginRole(server, 'flusher')
  const database = await createEmptyDatabase({ on: server })
  const { connectionString, pool } = database
  await migrate({ connectionString })
  await grantPrivileges(pool, { markers: [gateway.name], workers: [flusher.name] })
  await setPeriodLength(pool, 0.1)
  const [before, after] = await createWorkspaces(pool, 2)
  const inSales = `${connectionString}?options=-csearch_path%3Dsales,public`
  await using worker = await startWorker(flusher.connectionString(database), 5)
  await worker.stop()

  await pool.query(withNames(steps()[0]!, gateway, flusher))
  const marking = gateway.pool(database)
  await markUsage(marking, before!, { source: 'ssh' })
  const started = new Date()
  await pool.query(steps()[1]!)
  await markUsage(marking, after!, { source: 'ssh' })

  const { schema, applied, queue } = await migrate({ connectionString: inSales })
  assert.deepEqual([schema, applied, queue.queue], ['sales', [], 'workspace-usage-flush.sales'])
  const owner = heardPool({ connectionString: inSales, max: 2 })
  atEnd(() => owner.end())
  await grantPrivileges(owner, { markers: [gateway.name], workers: [flusher.name] })
  await using moved = await startWorker(flusher.connectionString(database), 1)
  await until(
    'both marks are flushed',
    async () => (await lastUsedAt(pool, [before!, after!]))[1]! >= started,
  )
  await moved.stop()
  assert.ok((await lastUsedAt(pool, [before!]))[0])
  assert.deepEqual(await left(database), ['table workspaces', 'type workspaces', 'type workspaces[]'])
  const { rows } = await pool.query(
    "SELECT name FROM pgboss.queue WHERE name LIKE 'workspace%' ORDER BY name",
  )
  assert.deepEqual(
    rows.map(({ name }) => name),
    ['flush-failed', 'flush', 'history', 'reap'].map(use => `workspace-usage-${use}.sales`),
  )
}

/** The SQL of the page, in the order of its steps. */
function steps(): string[] {
  const blocks = blocksOf('docs/moving.md').filter(({ language }) => language === 'sql')
  return blocks.map(({ code }) => code).filter(code => code.includes('sales'))
}

function withNames(code: string, gateway: LoginRole, flusher: LoginRole): string {
  return code
    .replaceAll('gateway', pg.escapeIdentifier(gateway.name))
    .replaceAll('flusher', pg.escapeIdentifier(flusher.name))
}

function startWorker(database: string, flushIntervalSeconds: number): ReturnType<typeof startFlushWorker> {
  return startFlushWorker({ database, logger: collectLog().logger, flushIntervalSeconds })
}

/** What is left in `public`, without indexes. */
async function left({ pool }: TestDatabase): Promise<string[]> {
  const objects = await catalogObjects(pool)
  return objects.filter(object => !/ (sales|pgboss)\b|^(index|schema) |pg_toast/.test(object))
}
