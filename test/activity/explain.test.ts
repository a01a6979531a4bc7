import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { beforeEach, test } from 'node:test'
import { explainUsage, type SourceUsage } from '../../src/activity/explain.ts'
import { InvalidWorkspaceIdError, NotMigratedError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'

const { pool, kysely } = await createTestDatabase()

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

const PLAIN = { counts: true, usedUntil: null }

/** The tests of the history look at the rest. */
function withoutSince(sources: SourceUsage[]) {
  return sources.map(({ since: _, sinceAtLeast: __, ...source }) => source)
}

test('explainUsage merges flushed and pending use by source, the newest first', async () => {
  const [id, other] = await createWorkspaces(pool, 2)
  const web = await storeClosedMarks(pool, [id!], { agoMs: 90_000, source: 'web' })
  await storeClosedMarks(pool, [id!], { agoMs: 60_000, source: 'ssh' })
  const vscode = await storeClosedMarks(pool, [id!, other!], { agoMs: 45_000, source: 'vscode' })
  await flush(pool)
  await storeClosedMarks(pool, [id!], { agoMs: 50_000, source: 'vscode' })
  await storeClosedMarks(pool, [id!], { agoMs: 40_000, source: 'ssh' })
  const ssh = await storeClosedMarks(pool, [id!], { agoMs: 20_000, source: 'ssh' })

  const { asOf, lastUsedAt, sources, ...explanation } = await explainUsage(pool, id!.toUpperCase())
  assert.deepEqual(explanation, { workspaceId: id, exists: true, createdAt: null, usedUntil: null })
  assert.deepEqual(withoutSince(sources), [
    { source: 'ssh', lastUsedAt: ssh, pending: true, ...PLAIN },
    { source: 'vscode', lastUsedAt: vscode, pending: false, ...PLAIN },
    { source: 'web', lastUsedAt: web, pending: false, ...PLAIN },
  ])
  assert.deepEqual(lastUsedAt, ssh)
  assert.ok(Math.abs(asOf.getTime() - ssh.getTime() - 20_000) < 5_000)
})

test('explainUsage shows use in the open period as used at the time of its answer', async () => {
  const [id] = await createWorkspaces(pool, 1)
  await storeClosedMarks(pool, [id!], { agoMs: -3_600_000, source: 'ssh' })
  const { sources, lastUsedAt, asOf } = await explainUsage(kysely, id!)
  assert.deepEqual(withoutSince(sources), [{ source: 'ssh', lastUsedAt: asOf, pending: true, ...PLAIN }])
  assert.deepEqual(lastUsedAt, asOf)
})

test('explainUsage distinguishes a workspace that was never used, one that does not exist, and one that does not exist but is marked', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const [missing, marked] = [randomUUID(), randomUUID()]
  const at = await storeClosedMarks(pool, [marked], { source: 'ssh' })
  const explained = async (id: string) => {
    const { exists, lastUsedAt, sources } = await explainUsage(pool, id)
    return { exists, lastUsedAt, sources: withoutSince(sources) }
  }
  assert.deepEqual(await explained(id!), { exists: true, lastUsedAt: null, sources: [] })
  await pool.query(`UPDATE workspaces SET last_used_at = '-infinity'`)
  assert.deepEqual(await explained(id!), { exists: true, lastUsedAt: null, sources: [] })
  assert.deepEqual(await explained(missing), { exists: false, lastUsedAt: null, sources: [] })
  assert.deepEqual(await explained(marked), {
    exists: false,
    lastUsedAt: null,
    sources: [{ source: 'ssh', lastUsedAt: at, pending: true, ...PLAIN }],
  })
})

test('explainUsage returns when a workspace was last used even if no source is on record', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const at = await storeClosedMarks(pool, [id!])
  await flush(pool, { sources: false })
  const { lastUsedAt, sources } = await explainUsage(pool, id!)
  assert.deepEqual({ lastUsedAt, sources }, { lastUsedAt: at, sources: [] })
})

test('explainUsage refuses a malformed id and a database that is not migrated', async () => {
  await assert.rejects(explainUsage(pool, 'nope'), new InvalidWorkspaceIdError('nope'))
  const empty = await createEmptyDatabase()
  await assert.rejects(explainUsage(empty.pool, randomUUID()), NotMigratedError)
})
