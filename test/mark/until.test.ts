import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { grantPrivileges, revokePrivileges } from '../../src/access/grant.ts'
import { explainPrivilegeError } from '../../src/access/refusal.ts'
import { pendingStatus } from '../../src/activity/status.ts'
import { inSchema } from '../../src/database/in-schema.ts'
import {
  InsufficientPrivilegeError,
  InvalidOptionError,
  InvalidSourceError,
  InvalidWorkspaceIdError,
  UntilOutOfRangeError,
  WorkspaceIdTypeError,
} from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { endUsage } from '../../src/mark/until.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { usageUntilLimit } from '../../src/schema/until-limit.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

const server = await testServer()
const holder = await createLoginRole(server, 'holder')
const marker = await createLoginRole(server, 'marker')
const database = await createTestDatabase()
const { pool, connectionString } = database
await grantPrivileges(pool, { holders: [holder.name], markers: [marker.name] })

const source = 'build'
let id: string

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, source_usage, workspaces CASCADE')
  id = (await createWorkspaces(pool, 1))[0]!
})

const inHours = (hours: number) => new Date(Date.now() + hours * 3_600_000)

async function held() {
  const { rows } = await pool.query(
    `SELECT source, period_end AS until, used_from FROM set_aside_usage WHERE reason = 'until' ORDER BY period_end`,
  )
  return rows as { source: string; until: Date; used_from: Date }[]
}

async function seen() {
  const { rows } = await pool.query('SELECT * FROM workspace_activity WHERE workspace_id = $1', [id])
  return rows[0] as { last_used_at: Date; source: string; pending: boolean; used_until: Date | null }
}

/** Lets the time come until which workspaces are in use: moves all of it back. */
async function hoursPass(hours: number): Promise<void> {
  await pool.query(
    `UPDATE set_aside_usage SET period_end = period_end - $1 * interval '1 hour',
      next_attempt_at = next_attempt_at - $1 * interval '1 hour', used_from = used_from - $1 * interval '1 hour'`,
    [hours],
  )
}

test('a workspace is in use until a time ahead, and the flush after that sets last_used_at to it', async () => {
  const until = inHours(2)
  assert.deepEqual(await markUsage(pool, id, { until, source }), { marked: 1, stored: 1, until })
  await flush(pool)
  const before = await seen()
  assert.ok(Math.abs(Number(before.last_used_at) - Date.now()) < 60_000)
  assert.deepEqual([before.used_until, before.source, before.pending], [until, source, true])
  await pool.query('TRUNCATE ONLY pending_usage')
  await hoursPass(3)
  const due = await pendingStatus(pool)
  assert.deepEqual([due.until, due.closed, due.lagSeconds > 3_500], [0, 1, true])
  const { flushed, updated } = await flush(pool)
  assert.deepEqual([flushed, updated], [1, 1])
  const after = await seen()
  assert.deepEqual(
    [after.last_used_at, after.used_until, after.pending],
    [new Date(Number(until) - 3 * 3_600_000), null, false],
  )
  assert.deepEqual(await held(), [])
})

test('while the time is ahead, its mark is neither open nor closed, and no lag', async () => {
  await markUsage(pool, id, { until: inHours(2), source })
  await pool.query('TRUNCATE ONLY pending_usage')
  assert.deepEqual(await pendingStatus(pool), {
    open: 0,
    closed: 0,
    held: 0,
    awaited: 0,
    refused: 0,
    until: 1,
    lagSeconds: 0,
  })
})

test('prolonging keeps one mark with the first beginning, and a shorter time changes nothing', async () => {
  await markUsage(pool, id, { until: inHours(1), source })
  const [first] = await held()
  const until = inHours(2)
  await markUsage(pool, id, { until, source })
  assert.deepEqual(await held(), [{ source, until, used_from: first!.used_from }])
  assert.deepEqual((await markUsage(pool, id, { until: inHours(1), source })).until, until)
  assert.deepEqual(await held(), [{ source, until, used_from: first!.used_from }])
})

test('each source has a mark of its own, and the latest time counts', async () => {
  const [one, two] = [inHours(1), inHours(2)]
  await markUsage(pool, id, { until: two, source: 'train' })
  await markUsage(pool, id, { until: one, source })
  assert.deepEqual(
    (await held()).map(({ source, until }) => [source, until]),
    [
      [source, one],
      ['train', two],
    ],
  )
  assert.deepEqual([(await seen()).used_until, (await seen()).source], [two, 'train'])
  assert.deepEqual(await endUsage(pool, id, { source: 'train' }), { ended: 1 })
  assert.deepEqual([(await seen()).used_until, (await seen()).source], [one, source])
  await markUsage(pool, id, { until: two, source: 'train' })
  assert.deepEqual(await endUsage(pool, [id, id.toUpperCase()], { everySource: true }), { ended: 2 })
  assert.equal((await seen()).used_until, null)
  assert.deepEqual(await endUsage(pool, id, { everySource: true }), { ended: 0 })
  assert.deepEqual(await endUsage(pool, []), { ended: 0 })
})

test('a use that ends early was use until then: last_used_at and the history have no more', async () => {
  const from = new Date()
  await markUsage(pool, id, { until: inHours(8), source })
  await hoursPass(-3)
  await pool.query(`UPDATE set_aside_usage SET used_from = now() - interval '3 hours'`)
  await endUsage(pool, id, { source })
  // Without the mark of the open period, which markUsage stores too.
  await pool.query('TRUNCATE ONLY pending_usage')
  await flush(pool)
  const { last_used_at, used_until, pending } = await seen()
  assert.ok(last_used_at >= from && last_used_at <= new Date(), String(last_used_at))
  assert.equal(used_until, null)
  const { rows } = await pool.query(
    `SELECT sum(minutes_used)::int AS minutes, min(first_used_at) AS first, max(last_used_at) AS last FROM workspace_usage_daily`,
  )
  assert.ok(rows[0].minutes >= 180 && rows[0].minutes <= 190, `${rows[0].minutes} minutes`)
  assert.ok(Math.abs(Number(rows[0].first) - Number(from) + 3 * 3_600_000) < 60_000)
  assert.deepEqual([rows[0].last, pending], [last_used_at, false])
})

test('a workspace that is deleted, held or refused at that time loses nothing but what it must', async () => {
  const [deleted, heldId, refused] = (await createWorkspaces(pool, 3)) as [string, string, string]
  await markUsage(pool, [deleted, heldId, refused], { until: inHours(1), source })
  await pool.query('TRUNCATE ONLY pending_usage')
  await pool.query('DELETE FROM workspaces WHERE id = $1', [deleted])
  await pool.query(
    `ALTER TABLE workspaces ADD CONSTRAINT refuses CHECK (id <> '${refused}' OR last_used_at IS NULL) NOT VALID`,
  )
  const other = await database.connect()
  await other.query('BEGIN')
  await other.query('SELECT FROM workspaces WHERE id = $1 FOR UPDATE', [heldId])
  await hoursPass(1.1)
  const first = await flush(pool)
  assert.deepEqual([first.unknown + first.awaited, first.held, first.refused], [1, 1, 1])
  await other.query('ROLLBACK')
  await pool.query('ALTER TABLE workspaces DROP CONSTRAINT refuses')
  await pool.query('UPDATE refused_usage SET next_attempt_at = now()')
  await flush(pool)
  const { rows } = await pool.query(
    'SELECT count(*)::int AS used, count(DISTINCT last_used_at)::int AS times FROM workspaces WHERE last_used_at IS NOT NULL',
  )
  assert.deepEqual(rows, [{ used: 2, times: 1 }])
  const history = await pool.query(
    'SELECT workspace_id, sum(minutes_used)::int >= 60 AS hour FROM workspace_usage_daily JOIN workspaces ON id = workspace_id GROUP BY 1',
  )
  assert.equal(history.rows.filter(({ hour }) => hour).length, 2)
})

test('a time in the past, beyond the bound or none at all is refused, and nothing is stored', async () => {
  for (const until of [inHours(-1), new Date(), inHours(25), new Date(8.64e15), new Date(-8.64e15)]) {
    await assert.rejects(markUsage(pool, id, { until, source }), error => {
      assert.ok(error instanceof UntilOutOfRangeError, String(error))
      assert.deepEqual(error.until, until)
      assert.ok(Math.abs(Number(error.latest) - Number(inHours(24))) < 60_000)
      return true
    })
  }
  for (const until of ['2030-01-01', Number.NaN, new Date(Number.NaN), null, {}]) {
    await assert.rejects(markUsage(pool, id, { until: until as never, source }), InvalidOptionError)
  }
  await assert.rejects(markUsage(pool, 'x', { until: inHours(1) }), InvalidWorkspaceIdError)
  await assert.rejects(markUsage(pool, id, { until: inHours(1), source: '' }), InvalidSourceError)
  await assert.rejects(endUsage(pool, id, { source: 'x', everySource: true }), InvalidOptionError)
  await assert.rejects(endUsage(pool, id, { everySource: 1 as never }), InvalidOptionError)
  assert.equal((await pool.query('SELECT FROM pending_usage')).rows.length, 0)
})

test('ids of another type than that of the database are refused by name', async () => {
  const wrong = { idType: 'bigint', until: inHours(1) } as const
  await assert.rejects(markUsage(pool, 7, wrong), error => {
    assert.ok(error instanceof WorkspaceIdTypeError, String(error))
    assert.equal(error.databaseType, 'uuid')
    return true
  })
  await assert.rejects(endUsage(pool, 7, { idType: 'bigint' }), WorkspaceIdTypeError)
})

test('ids of each type and a schema that is named: one statement does both', async () => {
  for (const [type, idType, value] of [
    ['bigint', 'bigint', 7n],
    ['integer', 'integer', 7],
    ['varchar(20)', 'text', 'a b'],
  ] as const) {
    const other = await createEmptyDatabase()
    await other.pool.query(
      `CREATE SCHEMA "odd $1"; CREATE TABLE "odd $1".workspaces (id ${type} PRIMARY KEY, last_used_at timestamptz)`,
    )
    await other.pool.query(`INSERT INTO "odd $1".workspaces VALUES ($1)`, [String(value)])
    await migrate({ connectionString: other.connectionString, schema: 'odd $1' })
    await grantPrivileges(inSchema(other.pool, 'odd $1'), { holders: [holder.name] })
    const roles = holder.pool(other)
    const usage = inSchema(roles, 'odd $1')
    const until = inHours(1)
    assert.deepEqual((await markUsage(usage, value, { until, source, idType })).until, until)
    assert.deepEqual(await endUsage(usage, value, { source, idType }), { ended: 1 })
    await revokePrivileges(inSchema(other.pool, 'odd $1'), { holders: [holder.name] })
    await assert.rejects(markUsage(usage, value, { until, idType }), { code: '42501' })
  }
})

test('a holder keeps workspaces in use and can do nothing else, and a marker can not', async () => {
  const holding = holder.pool(database)
  await markUsage(holding, id, { until: inHours(1), source })
  assert.deepEqual(await endUsage(holding, id, { source }), { ended: 1 })
  for (const sql of [
    'INSERT INTO set_aside_usage (workspace_id) VALUES (gen_random_uuid())',
    `INSERT INTO pending_usage (period_end, workspace_id) VALUES (now() + interval '1 day', gen_random_uuid())`,
    'INSERT INTO pending_usage (workspace_id) VALUES (gen_random_uuid())',
    'SELECT FROM set_aside_usage',
    'SELECT FROM workspace_activity',
    'SELECT FROM workspaces',
  ]) {
    await assert.rejects(holding.query(sql), { code: '42501' }, sql)
  }
  const marking = marker.pool(database)
  const refused = await markUsage(marking, id, { until: inHours(1) }).catch(error => error)
  const explained = await explainPrivilegeError(marking, refused, 'holder')
  assert.ok(explained instanceof InsufficientPrivilegeError)
  assert.match(explained.message, /workspace-usage grant --holder/)
  await assert.rejects(endUsage(marking, id), { code: '42501' })
})

test('search_path of the caller leads the functions to nothing of the caller', async () => {
  await pool.query(`CREATE SCHEMA IF NOT EXISTS evil; GRANT ALL ON SCHEMA evil TO PUBLIC`)
  const client = await holder.pool(database).connect()
  await client.query(`
    CREATE FUNCTION evil.lying(timestamptz, timestamptz) RETURNS boolean LANGUAGE plpgsql AS
      $$ BEGIN RAISE 'called as %', current_user; END $$;
    CREATE OPERATOR evil.<= (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.lying);
    CREATE OPERATOR evil.> (LEFTARG = timestamptz, RIGHTARG = timestamptz, FUNCTION = evil.lying);
    SET search_path = evil, pg_catalog`)
  await client.query(`SELECT public.mark_usage_until($1, now() + interval '1 hour', 'x')`, [id])
  await client.query('DROP OWNED BY CURRENT_USER').catch(() => {})
  client.release(true)
  await pool.query('DROP SCHEMA evil CASCADE')
  await grantPrivileges(pool, { holders: [holder.name] })
  assert.equal((await held()).length, 1)
})

test('in SQL by hand the source is the application_name, and an error names the bound', async () => {
  const client = await database.connect({ application_name: 'nightly' })
  const { rows } = await client.query(`SELECT mark_usage_until($1, now() + interval '2 hours') AS until`, [
    id,
  ])
  assert.deepEqual(await held().then(([mark]) => [mark!.source, mark!.until]), ['nightly', rows[0].until])
  await assert.rejects(client.query(`SELECT mark_usage_until($1, now() + interval '2 days')`, [id]), {
    code: '22023',
    constraint: 'usage_until',
  })
  await assert.rejects(client.query(`SELECT mark_usage_until($1, 'infinity')`, [id]), { code: '22023' })
  await assert.rejects(client.query(`SELECT mark_usage_until($1, NULL)`, [id]), { code: '22023' })
  await assert.rejects(client.query(`SELECT mark_usage_until($1, now() + interval '1 hour', '')`, [id]), {
    constraint: 'usage_source',
  })
  const ended = await client.query('SELECT end_usage_until($1) AS ended', [id])
  assert.deepEqual(ended.rows, [{ ended: '1' }])
})

test('the bound is set by migrate', async () => {
  assert.equal(await usageUntilLimit(pool), 86_400)
  await migrate({ connectionString, untilLimitSeconds: 48 * 3_600 })
  await markUsage(pool, id, { until: inHours(47), source })
  await assert.rejects(markUsage(pool, id, { until: inHours(49), source }), UntilOutOfRangeError)
  await migrate({ connectionString })
  assert.equal(await usageUntilLimit(pool), 48 * 3_600)
  await assert.rejects(migrate({ connectionString, untilLimitSeconds: 59 }), InvalidOptionError)
  await migrate({ connectionString, untilLimitSeconds: 86_400 })
})

test('many marks and ends at once wait for nobody, and what is left is one of their outcomes', async () => {
  const ids = await createWorkspaces(pool, 20)
  const until = inHours(3)
  const shuffled = () => ids.toSorted(() => Math.random() - 0.5)
  await Promise.all(
    Array.from({ length: 30 }, (_, n) =>
      n % 3 === 0
        ? endUsage(pool, shuffled(), { source })
        : markUsage(pool, shuffled(), { until: new Date(Number(until) - n * 1_000), source }),
    ),
  )
  await markUsage(pool, ids, { until, source })
  assert.equal((await held()).filter(mark => mark.until.getTime() === until.getTime()).length, ids.length)
  assert.equal((await endUsage(pool, ids, { everySource: true })).ended >= ids.length, true)
  await flush(pool)
  assert.deepEqual(await held(), [])
})
