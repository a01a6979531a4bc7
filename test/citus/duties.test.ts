import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { grantPrivileges, revokePrivileges } from '../../src/access/grant.ts'
import { explainUsage } from '../../src/activity/explain.ts'
import { usageHealth } from '../../src/activity/health.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { reapIdle } from '../../src/reaper/reap-idle.ts'
import { createWorkspaces, lastUsedAt, storeClosedMarks } from '../support/seed.ts'
import { clusterOfRun } from './support/cluster.ts'
import { createClusterDatabase, createClusterRole } from './support/cluster-database.ts'

const cluster = await clusterOfRun()
const skip = typeof cluster === 'string' ? cluster : false

test('a role with one duty can do it on a cluster, and nothing without it', { skip }, async () => {
  if (typeof cluster === 'string') return
  const database = await createClusterDatabase(cluster, { periodSeconds: 3_600, shards: 4 })
  const { pool } = database
  const ids = await createWorkspaces(pool, 10)
  const roles = {
    marker: await createClusterRole(database, 'marker'),
    holder: await createClusterRole(database, 'holder'),
    worker: await createClusterRole(database, 'worker'),
    reader: await createClusterRole(database, 'reader'),
    reaper: await createClusterRole(database, 'reaper'),
  }
  const duties = Object.fromEntries(Object.entries(roles).map(([duty, { name }]) => [`${duty}s`, [name]]))
  const [coordinator, worker] = [database.connectionString, database.workers[0]!]
  const as = async (role: keyof typeof roles, node: string, run: (of: pg.Pool) => Promise<unknown>) => {
    const own = new pg.Pool({ connectionString: roles[role].at(node) })
    try {
      return await run(own)
    } finally {
      await own.end()
    }
  }
  const work = {
    marker: (of: pg.Pool) => markUsage(of, ids.slice(0, 3), { source: 'ssh' }),
    holder: (of: pg.Pool) =>
      markUsage(of, [ids[3]!], { source: 'job', until: new Date(Date.now() + 3_600_000) }),
    worker: (of: pg.Pool) => flush(of),
    reader: async (of: pg.Pool) => {
      assert.equal((await explainUsage(of, ids[0]!)).exists, true)
      for await (const _ of idleWorkspaces(of, { idleForSeconds: 60 })) break
    },
    reaper: async (of: pg.Pool) => {
      const { refused, failures } = await reapIdle({
        pool: of,
        idleFor: '1d',
        maxPerMinute: 10_000,
        stop: () => {},
      })
      assert.deepEqual([refused, failures], [[], []])
    },
  }
  const each = Object.keys(work) as (keyof typeof work)[]
  for (const duty of each) {
    await assert.rejects(as(duty, coordinator, work[duty]), /permission denied|grant/, duty)
  }
  await grantPrivileges(pool, duties)
  const end = await storeClosedMarks(pool, ids, { agoMs: 2 * 86_400_000 })
  for (const duty of ['marker', 'holder', 'reader'] as const) await as(duty, worker, work[duty])
  for (const duty of each) await as(duty, coordinator, work[duty])
  assert.deepEqual((await lastUsedAt(pool, ids))[9], end)
  await as('worker', coordinator, async of => assert.notEqual((await usageHealth(of)).asOf, null))
  const { rows } = await pool.query('SELECT count(*)::int AS stopped FROM stopped_workspaces')
  assert.equal(rows[0].stopped, 6)
  await revokePrivileges(pool, duties)
  for (const duty of each) {
    await assert.rejects(as(duty, coordinator, work[duty]), /permission denied|grant/, duty)
  }
})
