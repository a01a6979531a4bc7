import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { grantPrivileges } from '../../src/access/grant.ts'
import { usageHistory } from '../../src/activity/history.ts'
import { silentSources } from '../../src/activity/sources.ts'
import { InvalidOptionError, NotMigratedError, UnknownOptionError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import type { ImportRefusal, ImportRow } from '../../src/import/import-row.ts'
import { type ImportOptions, importUsage } from '../../src/import/import-usage.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'
import { shuffled } from '../support/shuffled.ts'
import { testServer } from '../support/test-server.ts'
import { openTransaction } from '../support/transaction.ts'

const role = await createLoginRole(await testServer(), 'importer')
const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('ALTER TABLE workspaces DROP CONSTRAINT IF EXISTS refusing')
  await pool.query('TRUNCATE pending_usage, workspaces, workspace_usage, source_usage, refused_usage CASCADE')
})

const at = (time: string) => new Date(`2026-03-${time}Z`)

async function refusalsOf(rows: Iterable<ImportRow>, options: ImportOptions = {}) {
  const refusals: ImportRefusal[] = []
  const result = await importUsage(pool, rows, { ...options, onRefused: refusal => refusals.push(refusal) })
  return { ...result, refusals }
}

/** All that an import may write. */
async function state(): Promise<unknown> {
  const { rows } = await pool.query(`SELECT
    (SELECT json_agg(w ORDER BY id) FROM workspaces w) AS workspaces,
    (SELECT json_agg(u ORDER BY workspace_id, source, day) FROM workspace_usage_day u) AS days,
    (SELECT json_agg(s ORDER BY source) FROM source_usage s) AS sources`)
  return rows[0]
}

test('an import moves last use forward, fills the history, and notes the source', async () => {
  const [one, two] = (await createWorkspaces(pool, 2)) as [string, string]
  const result = await importUsage(pool, [
    { workspaceId: one.toUpperCase(), usedAt: '2026-03-01T13:02:00+01:00' },
    { workspaceId: one, usedAt: at('01T10:00:00') },
    { workspaceId: two, usedAt: '2026-03-02 00:00:00.000Z', source: 'ssh' },
  ])
  assert.deepEqual(
    { ...result, refusedBy: undefined },
    { rows: 3, imported: 3, updated: 2, refused: 0, refusedBy: undefined },
  )
  assert.deepEqual(await lastUsedAt(pool, [one, two]), [at('01T12:02:00'), at('02T00:00:00')])
  const { sources } = await usageHistory(pool, one, { days: 400 })
  assert.deepEqual(
    sources.map(({ source, intervals, minutesUsed }) => ({ source, intervals, minutesUsed })),
    [
      {
        source: 'import',
        intervals: [
          { from: at('01T10:00:00'), until: at('01T10:00:00') },
          { from: at('01T12:00:00'), until: at('01T12:02:00') },
        ],
        minutesUsed: 10,
      },
    ],
  )
  const { rows } = await pool.query(
    'SELECT source, last_used_at, regular_since FROM source_usage ORDER BY source',
  )
  assert.deepEqual(rows, [
    { source: 'import', last_used_at: at('01T12:02:00'), regular_since: at('01T12:02:00') },
    { source: 'ssh', last_used_at: at('02T00:00:00'), regular_since: at('02T00:00:00') },
  ])
})

test('an import moves nothing back, and a second import of the same rows in another order changes nothing', async () => {
  const ids = await createWorkspaces(pool, 50)
  const used = await storeClosedMarks(pool, ids.slice(0, 10), { source: 'ssh', agoMs: 60_000 })
  await flush(pool)
  const rows = ids.flatMap((workspaceId, n) =>
    [1, 2, 3].map(day => ({
      workspaceId,
      usedAt: at(`0${day}T0${n % 10}:00:00`),
      source: ['ssh', 'web'][n % 2]!,
    })),
  )
  await importUsage(pool, shuffled(rows), { batchSize: 7 })
  const times = await lastUsedAt(pool, ids)
  assert.deepEqual(times.slice(0, 10), Array(10).fill(used))
  assert.deepEqual(
    times.slice(10),
    ids.slice(10).map((_, n) => at(`03T0${n % 10}:00:00`)),
  )
  const before = await state()
  const again = await importUsage(pool, shuffled(rows))
  assert.deepEqual([again.imported, again.updated], [150, 0])
  assert.deepEqual(await state(), before)
})

test('each row that is refused is told with its reason, and the others are imported', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  const missing = randomUUID()
  const ahead = new Date(Date.now() + 3_600_000)
  const { refusals, refusedBy, ...counts } = await refusalsOf([
    { workspaceId: 'nope', usedAt: at('01T00:00:00') },
    { workspaceId: id, usedAt: '2026-03-01T00:00:00' },
    { workspaceId: id, usedAt: ahead, line: 70 },
    { workspaceId: id, usedAt: '-infinity' },
    { workspaceId: missing, usedAt: at('01T00:00:00') },
    { workspaceId: id, usedAt: at('01T00:00:00'), source: 'x'.repeat(64) },
    { workspaceId: id, usedAt: at('01T00:00:00') },
  ])
  assert.deepEqual(counts, { rows: 7, imported: 1, updated: 1, refused: 6 })
  assert.deepEqual(refusedBy, { invalid: 3, never: 1, future: 1, unknown: 1, held: 0, refused: 0 })
  const told = Object.fromEntries(refusals.map(({ line, code, message }) => [line, `${code}: ${message}`]))
  assert.match(told[1]!, /^invalid: not a UUID: "nope"/)
  assert.match(told[2]!, /^invalid: the time "2026-03-01T00:00:00" has no zone\./)
  assert.equal(
    told[70],
    `future: the time ${ahead.toISOString()} is in the future, by the clock of the database`,
  )
  assert.equal(told[4], 'never: the time stands for "never used"')
  assert.equal(told[5], `unknown: no such workspace: ${missing}`)
  assert.match(told[6]!, /^invalid: not a source: /)
  assert.deepEqual(await lastUsedAt(pool, [id]), [at('01T00:00:00')])
})

test('a workspace that another transaction holds is tried again, and told if it is held until the end', async () => {
  const [free, held] = (await createWorkspaces(pool, 2)) as [string, string]
  const rows = [free, held].map(workspaceId => ({ workspaceId, usedAt: at('01T00:00:00') }))
  await using holder = await openTransaction(database)
  await holder.client.query('SELECT FROM workspaces WHERE id = $1 FOR UPDATE', [held])
  const told = await refusalsOf(rows, { heldSeconds: 0 })
  assert.deepEqual([told.imported, told.refusedBy.held], [1, 1])
  assert.deepEqual(told.refusals, [
    { line: 2, code: 'held', message: `another transaction holds workspace ${held}: import it again` },
  ])
  const again = importUsage(pool, rows, {
    heldSeconds: 600,
    onBatch: async () => {
      await holder.client.query('ROLLBACK')
    },
  })
  assert.deepEqual([(await again).imported, (await again).refused], [2, 0])
  assert.deepEqual(await lastUsedAt(pool, [held]), [at('01T00:00:00')])
})

test('what the database refuses for one workspace costs no other row', async () => {
  const ids = await createWorkspaces(pool, 40)
  const [bad, cancelled] = [ids[7]!, ids[23]!]
  await pool.query(`ALTER TABLE workspaces ADD CONSTRAINT refusing CHECK (id <> '${bad}') NOT VALID`)
  await pool.query(`
    CREATE FUNCTION cancel() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER cancelling BEFORE UPDATE ON workspaces FOR EACH ROW WHEN (OLD.id = '${cancelled}')
      EXECUTE FUNCTION cancel()`)
  const { refusals, imported } = await refusalsOf(
    ids.map(workspaceId => ({ workspaceId, usedAt: at('01T00:00:00') })),
  )
  await pool.query('DROP FUNCTION cancel CASCADE')
  assert.equal(imported, 38)
  assert.deepEqual(
    refusals.map(({ line, code }) => [line, code]).toSorted(([a], [b]) => Number(a) - Number(b)),
    [
      [8, 'refused'],
      [24, 'refused'],
    ],
  )
  assert.match(
    refusals.find(({ line }) => line === 8)!.message,
    /violates check constraint "refusing" \(SQLSTATE 23514\)$/,
  )
  assert.match(
    refusals.find(({ line }) => line === 24)!.message,
    /a trigger on workspaces cancelled the update/,
  )
})

test('an import fails if the database takes nothing at all', async () => {
  const ids = await createWorkspaces(pool, 40)
  await pool.query('ALTER TABLE workspaces ADD CONSTRAINT refusing CHECK (last_used_at IS NULL)')
  const rows = ids.map(workspaceId => ({ workspaceId, usedAt: at('01T00:00:00') }))
  await assert.rejects(importUsage(pool, rows), /violates check constraint "refusing"/)
})

test('a source that does not count is imported into the history, and moves nothing', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await pool.query(
    "INSERT INTO source_usage (source, regular_since, last_used_at, counts) VALUES ('poller', now(), now(), false)",
  )
  const { imported, updated } = await importUsage(pool, [
    { workspaceId: id, usedAt: at('01T00:00:00'), source: 'poller' },
  ])
  assert.deepEqual([imported, updated], [1, 0])
  assert.deepEqual(await lastUsedAt(pool, [id]), [null])
  assert.equal((await usageHistory(pool, id, { days: 400 })).sources.length, 1)
})

test('an import makes no source seem silent', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  // Less than an hour apart, for two days: marks like these make a source regular.
  const rows = Array.from({ length: 60 }, (_, n) => ({
    workspaceId: id,
    usedAt: new Date(at('01T00:00:00').getTime() + n * 3_000_000),
  }))
  await importUsage(pool, rows, { batchSize: 1 })
  assert.deepEqual(await silentSources(pool, 3_600), [])
})

test('an aborted import ends after the batch, and reads no further', async () => {
  const ids = await createWorkspaces(pool, 100)
  const ending = new AbortController()
  let read = 0
  async function* rows(): AsyncGenerator<ImportRow> {
    for (const workspaceId of ids) {
      read++
      yield { workspaceId, usedAt: at('01T00:00:00') }
    }
  }
  const { imported } = await importUsage(pool, rows(), {
    batchSize: 10,
    signal: ending.signal,
    onBatch: ({ imported }) => {
      if (imported === 30) ending.abort()
    },
  })
  assert.deepEqual([imported, read], [30, 31])
})

test('the duty of a worker suffices for an import', async () => {
  const [id] = (await createWorkspaces(pool, 1)) as [string]
  await grantPrivileges(pool, { workers: [role.name] })
  const rows = [{ workspaceId: id, usedAt: at('01T00:00:00') }]
  assert.equal((await importUsage(role.pool(database), rows)).updated, 1)
})

test('ids of each type are imported', async () => {
  for (const [type, id] of [
    ['bigint', '9007199254740993'],
    ['text', ' a, "b" '],
  ] as const) {
    await using other = await createEmptyDatabase()
    await other.pool.query(`CREATE TABLE workspaces (id ${type} PRIMARY KEY, last_used_at timestamptz)`)
    await other.pool.query('INSERT INTO workspaces VALUES ($1)', [id])
    const { migrate } = await import('../../src/schema/migrate.ts')
    await migrate({ connectionString: other.connectionString })
    const { imported } = await importUsage(other.pool, [{ workspaceId: id, usedAt: at('01T00:00:00') }])
    const { sources } = await usageHistory(other.pool, id, { days: 400 })
    assert.deepEqual([imported, sources[0]?.minutesUsed], [1, 5], type)
  }
})

test('importUsage refuses options and rows that are not allowed, and a database that is not migrated', async () => {
  await assert.rejects(importUsage(pool, [], { batchSize: 0 }), InvalidOptionError)
  await assert.rejects(importUsage(pool, [], { source: '' }), InvalidOptionError)
  await assert.rejects(importUsage(pool, [], { sources: 'x' } as object), UnknownOptionError)
  await assert.rejects(importUsage(pool, 'rows' as never), InvalidOptionError)
  const empty = await createEmptyDatabase()
  await assert.rejects(importUsage(empty.pool, []), NotMigratedError)
})
