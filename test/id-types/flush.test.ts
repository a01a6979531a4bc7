import assert from 'node:assert/strict'
import { test } from 'node:test'
import { explainUsage } from '../../src/activity/explain.ts'
import { refusedWorkspaces } from '../../src/activity/refused.ts'
import { workspaceIdType } from '../../src/database/workspace-id-type.ts'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import type { TestDatabase } from '../support/database.ts'
import { hostDatabase, ID_HOSTS, type IdHost } from '../support/id-hosts.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { onPostgres15 } from '../support/postgres-15.ts'

for (const host of ID_HOSTS) {
  test(`ids of type ${host.name} are marked, flushed and explained, each as it is`, async () => {
    await marksAndFlushes(host, await hostDatabase(host))
  })

  test(`marks of ids of type ${host.name} are held, awaited, refused and tried again`, async () => {
    await settlesAll(host, await hostDatabase(host, { others: host.others(40) }))
  })
}

for (const host of ID_HOSTS.filter(({ name }) => ['bigint', 'text'].includes(name))) {
  test(`on PostgreSQL 15, ids of type ${host.name} are marked, flushed and explained, each as it is`, async t => {
    await onPostgres15(t, async ({ connectionString }) => {
      await marksAndFlushes(host, await hostDatabase(host, { on: connectionString }))
    })
  })
}

async function marksAndFlushes(host: IdHost, database: TestDatabase): Promise<void> {
  const { pool } = database
  const { idType, ids } = host
  assert.equal(await workspaceIdType(pool), idType)
  await setPeriodLength(pool, CENTURY)

  // Each way to mark stores the same row.
  assert.deepEqual(await markUsage(pool, ids, { idType, source: 'ssh' }), {
    marked: ids.length,
    stored: ids.length,
  })
  assert.deepEqual(await markUsage(pool, ids, { idType, source: 'ssh' }), { marked: ids.length, stored: 0 })
  const tracker = new UsageTracker(pool, { idType, source: 'ssh' })
  for (let round = 0; round < 3; round++) {
    for (const id of ids) tracker.mark(id)
    await tracker.drain()
  }
  const { marked, deduplicated, stored } = tracker.stats()
  assert.deepEqual(
    { marked, deduplicated, stored },
    {
      marked: 3 * ids.length,
      deduplicated: 2 * ids.length,
      stored: ids.length,
    },
  )
  await tracker.close()
  for (const id of ids) {
    await pool.query(
      'INSERT INTO pending_usage (workspace_id, source) VALUES ($1, $2) ON CONFLICT DO NOTHING',
      [id, 'ssh'],
    )
  }
  assert.deepEqual(await idsOf(pool, 'SELECT workspace_id::text AS id FROM pending_usage'), sorted(ids))

  for (const [id, pending] of [
    [ids[0]!, true],
    [ids.at(-1)!, true],
  ] as const) {
    const { exists, workspaceId, sources } = await explainUsage(pool, id)
    assert.deepEqual(
      { exists, workspaceId, pending: sources[0]?.pending },
      { exists: true, workspaceId: id, pending },
    )
  }

  await setPeriodLength(pool, 30)
  await pool.query(`UPDATE pending_usage SET period_end = now() - interval '1 second'`)
  const { flushed, updated, unknown } = await flush(pool)
  assert.deepEqual({ flushed, updated, unknown }, { flushed: ids.length, updated: ids.length, unknown: 0 })
  const used = 'SELECT id::text AS id FROM workspaces WHERE last_used_at IS NOT NULL'
  assert.deepEqual(await idsOf(pool, used), sorted(ids))
  for (const id of ids) {
    const { exists, lastUsedAt, sources } = await explainUsage(pool, id)
    assert.ok(exists && lastUsedAt !== null && sources.length === 1 && !sources[0]!.pending, id)
  }
}

async function settlesAll(host: IdHost, database: TestDatabase): Promise<void> {
  const { pool } = database
  const [held, refused, ...fine] = host.others(40)
  const [missing] = host.others(41).slice(40)
  await pool.query(
    `ALTER TABLE workspaces ADD CONSTRAINT refuse CHECK (last_used_at IS NULL OR id::text <> '${refused}')`,
  )
  const close = async (ids: readonly string[]) => {
    await pool.query(
      `INSERT INTO pending_usage (period_end, workspace_id, source)
      SELECT now() - interval '1 second', id, 'ssh' FROM unnest($1::${host.idType}[]) AS id`,
      [ids],
    )
  }
  await close([held!, refused!, missing!, ...fine])
  const holder = await database.connect()
  await holder.query('BEGIN')
  await holder.query('SELECT FROM workspaces WHERE id = $1 FOR UPDATE', [held])

  const first = await flush(pool)
  const counts = ({ flushed, updated, unknown, held, awaited, refused }: typeof first) => ({
    flushed,
    updated,
    unknown,
    held,
    awaited,
    refused,
  })
  assert.deepEqual(counts(first), { flushed: 38, updated: 38, unknown: 0, held: 1, awaited: 1, refused: 1 })
  assert.deepEqual(
    first.refusals.map(({ workspaceId, sqlState }) => ({ workspaceId, sqlState })),
    [{ workspaceId: refused, sqlState: '23514' }],
  )
  const { workspaces } = await refusedWorkspaces(pool)
  assert.deepEqual(
    workspaces.map(({ workspaceId }) => workspaceId),
    [refused],
  )

  await holder.query('ROLLBACK')
  await pool.query('ALTER TABLE workspaces DROP CONSTRAINT refuse')
  await pool.query('INSERT INTO workspaces (id) VALUES ($1)', [missing])
  const rest = await drain(pool, { retryRefused: true })
  assert.deepEqual({ flushed: rest.flushed, updated: rest.updated }, { flushed: 3, updated: 3 })
  assert.equal((await refusedWorkspaces(pool)).total, 0)

  await pool.query('DELETE FROM workspaces WHERE id = $1', [missing])
  await close([missing!])
  assert.equal((await flush(pool, { unknownAfterSeconds: 0 })).unknown, 1)
  assert.deepEqual(await idsOf(pool, 'SELECT workspace_id::text AS id FROM pending_usage'), [])
}

async function idsOf(pool: TestDatabase['pool'], query: string): Promise<string[]> {
  const { rows } = await pool.query(query)
  return sorted(rows.map(({ id }) => id as string))
}

function sorted(ids: readonly string[]): string[] {
  return [...ids].sort()
}
