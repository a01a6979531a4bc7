import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { up as firstMigration } from '../../migrations/0001_pending_usage.ts'
import { openPeriodRemaining } from '../../src/activity/status.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { migrateDown } from '../../src/schema/migrate-down.ts'
import { DEFAULT_PERIOD_SECONDS, setUsagePeriod, usagePeriod } from '../../src/schema/period.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { testServer } from '../support/test-server.ts'

const MARK = 'INSERT INTO pending_usage (workspace_id) VALUES (gen_random_uuid()) ON CONFLICT DO NOTHING'
const servers = { 18: await testServer(), 15: await testServer15() }

for (const major of [18, 15] as const) {
  const on = servers[major]
  suite(`the length of a period on PostgreSQL ${major}`, { skip: on === null && POSTGRES_15_MISSING }, () => {
    const database = () => createTestDatabase(major === 15 ? { on: on! } : {})

    test(`the length of a period is part of the plan of a mark, which calls no function of ours when it runs, on PostgreSQL ${major}`, async () => {
      const { pool } = await database()
      assert.match(await planOf(pool, MARK), /Output: .*clock_timestamp\(\).*'00:00:30'::interval/)
      assert.doesNotMatch(await planOf(pool, MARK), /usage_period/)
    })

    test(`a mark that was prepared before a change of the length uses the new length at its next execution, on PostgreSQL ${major}`, async () => {
      const db = await database()
      const marker = await db.connect()
      await marker.query(`PREPARE mark AS ${MARK}`)
      // PostgreSQL may keep the plan of a statement after it ran five times.
      for (let i = 0; i < 8; i++) await marker.query('EXECUTE mark')
      for (const seconds of [0.5, 1_800]) {
        await setUsagePeriod(db.pool, seconds)
        // Not TRUNCATE, because PostgreSQL always plans anew after it.
        await db.pool.query('DELETE FROM pending_usage')
        const { rows: before } = await marker.query('SELECT clock_timestamp() AS now')
        await marker.query('EXECUTE mark')
        const { rows } = await marker.query('SELECT period_end, clock_timestamp() AS now FROM pending_usage')
        const periodMs = seconds * 1_000
        assert.equal(rows[0].period_end.getTime() % periodMs, 0)
        assert.ok(rows[0].period_end > before[0].now)
        assert.ok(rows[0].period_end.getTime() <= rows[0].now.getTime() + periodMs)
      }
    })

    test(`each period ends a whole number of lengths after the epoch, later than its marks by one length at most, on PostgreSQL ${major}`, async () => {
      const { pool } = await database()
      for (const seconds of [0.1, 0.123, 7, 30, 3_600, 86_400]) {
        await setPeriodLength(pool, seconds)
        const { rows } = await pool.query(
          "SELECT pg_get_function_sqlbody('usage_period_end()'::regprocedure) AS body",
        )
        const body = rows[0].body.replace('RETURN', '').replace('clock_timestamp()', 'instant')
        const length = Math.round(seconds * 1e6)
        const { rows: wrong } = await pool.query(`
          SELECT instant, period_end FROM (
            SELECT (extract(epoch FROM instant) * 1000000)::bigint AS at, instant,
              (extract(epoch FROM ${body}) * 1000000)::bigint AS end_at, ${body} AS period_end
            FROM (
              SELECT to_timestamp(0) + ((start / ${length} * ${length} + beside) || ' us')::interval AS instant
              FROM generate_series(1770000000000000, 4000000000000000, 97000000000333) AS start,
                unnest(ARRAY[-1, 0, 1, ${length} - 1, ${length}, ${length} + 1, ${length} / 3]) AS beside
            ) instants
          ) periods
          WHERE end_at <= at OR end_at - at > ${length} OR end_at % ${length} <> 0`)
        assert.deepEqual(wrong, [])
      }
    })

    test(`usage_period_end() calls our usage_period() whatever search_path says, even after it moved to another schema, on PostgreSQL ${major}`, async () => {
      const db = await database()
      const { pool } = db
      await pool.query(`
        CREATE SCHEMA hostile; CREATE SCHEMA elsewhere;
        CREATE FUNCTION hostile.usage_period() RETURNS interval LANGUAGE sql STABLE RETURN interval '1 year';
        CREATE FUNCTION hostile.minus_one(numeric, numeric) RETURNS numeric LANGUAGE sql STABLE RETURN -1;
        CREATE OPERATOR hostile.* (FUNCTION = hostile.minus_one, LEFTARG = numeric, RIGHTARG = numeric)`)
      const hostile = await db.connect()
      await hostile.query('SET search_path = hostile, public, pg_catalog')
      const endIsNear = async () => {
        const { rows } = await hostile.query(
          `SELECT public.usage_period_end() - clock_timestamp() <= interval '30 s' AS near`,
        )
        return rows[0].near
      }
      assert.ok(await endIsNear())
      assert.equal(await usagePeriod(hostile), 30)
      await setUsagePeriod(hostile, 20)
      assert.equal(await usagePeriod(pool), 20)

      await pool.query('ALTER FUNCTION usage_period() SET SCHEMA elsewhere')
      assert.ok(await endIsNear())
      await setUsagePeriod(hostile, 10)
      assert.equal(await usagePeriod(pool), 10)
      const { rows } = await pool.query(
        'SELECT hostile.usage_period()::text AS theirs, elsewhere.usage_period()::text AS ours',
      )
      assert.deepEqual(rows[0], { theirs: '1 year', ours: '00:00:10' })
    })
  })
}

test('setUsagePeriod changes the length, and usagePeriod reads it: 30 seconds in a new database', async () => {
  const { pool } = await createTestDatabase()
  assert.equal(await usagePeriod(pool), 30)
  assert.equal(DEFAULT_PERIOD_SECONDS, 30)
  for (const seconds of [0.1, 0.125, 60, 3_600]) {
    await setUsagePeriod(pool, seconds)
    assert.equal(await usagePeriod(pool), seconds)
  }
})

test('setUsagePeriod does not change the period of a mark that is already stored', async () => {
  const { pool } = await createTestDatabase()
  const id = crypto.randomUUID()
  // At the end of a period, a shorter one ends at the same time.
  await until('the period lasts for a while', async () => (await openPeriodRemaining(pool)) > 5_000)
  await markUsage(pool, id)
  const { rows: before } = await pool.query('SELECT period_end FROM pending_usage')
  await setUsagePeriod(pool, 0.1)
  await markUsage(pool, id)
  const { rows } = await pool.query('SELECT period_end FROM pending_usage')
  assert.equal(rows.length, 2)
  assert.ok(rows.some(({ period_end }) => +period_end === +before[0].period_end))
})

test('setUsagePeriod refuses everything but seconds from 0.1 to 3600 with at most 3 decimals', async () => {
  const { pool } = await createTestDatabase()
  for (const seconds of [0, -1, 0.09, 3_600.1, 0.1234, Number.NaN, Infinity, '30', null, undefined]) {
    await assert.rejects(setUsagePeriod(pool, seconds as number), {
      name: 'InvalidOptionError',
      option: 'seconds',
      allowed: '0.1 to 3600 seconds, with at most 3 decimals',
    })
  }
  assert.equal(await usagePeriod(pool), 30)
})

test('setUsagePeriod names the owner if another role wants to change the length', async () => {
  const role = await createLoginRole(await testServer(), 'stranger')
  const database = await createTestDatabase()
  const pool = role.pool(database)
  assert.equal(await usagePeriod(pool), 30)
  await database.pool.query(`GRANT CREATE ON SCHEMA public TO "${role.name.replaceAll('"', '""')}"`)
  const { rows } = await database.pool.query('SELECT current_user AS owner')
  await assert.rejects(setUsagePeriod(pool, 1), {
    name: 'SchemaChangeRefusedError',
    message:
      'PostgreSQL refused the change: must be owner of function usage_period. Nothing was changed. ' +
      `Connect as its owner, the role "${rows[0].owner}", or as a superuser.`,
  })
  assert.equal(await usagePeriod(pool), 30)
})

test('usagePeriod and setUsagePeriod report a database that has only the older migrations', async () => {
  const { pool, connectionString } = await createTestDatabase()
  await takeBackPeriodLength(connectionString)
  const missing = { name: 'NotMigratedError', missing: 'function usage_period() does not exist' }
  await assert.rejects(usagePeriod(pool), missing)
  await assert.rejects(setUsagePeriod(pool, 1), missing)
})

test('the migration to one length of periods keeps pending marks and the default of their column, up and down', async () => {
  const { pool, connectionString } = await createTestDatabase()
  await markUsage(pool, crypto.randomUUID())
  const before = await pendingUsage(pool)
  await takeBackPeriodLength(connectionString)
  assert.deepEqual(await pendingUsage(pool), before)
  await migrate({ connectionString })
  assert.deepEqual(await pendingUsage(pool), before)
})

test('the migration to one length of periods, taken back, restores the function of the first migration', async () => {
  const first = await createEmptyDatabase()
  await firstMigration(first.kysely as never)
  const { pool, connectionString } = await createTestDatabase()
  await setUsagePeriod(pool, 1)
  await takeBackPeriodLength(connectionString)
  assert.deepEqual(await periodEndFunction(pool), await periodEndFunction(first.pool))
})

test('the same roles may mark before and after the migration to one length of periods', async () => {
  const server = await testServer()
  const marker = await createLoginRole(server, 'marker')
  const stranger = await createLoginRole(server, 'stranger')
  const database = await createTestDatabase()
  const { pool, connectionString } = database
  await takeBackPeriodLength(connectionString)
  const name = `"${marker.name.replaceAll('"', '""')}"`
  await pool.query(`
    REVOKE EXECUTE ON FUNCTION usage_period_end() FROM PUBLIC;
    GRANT EXECUTE ON FUNCTION usage_period_end() TO ${name};
    GRANT INSERT (workspace_id, source) ON pending_usage TO ${name}`)
  await migrate({ connectionString })
  assert.equal((await markUsage(marker.pool(database), crypto.randomUUID())).stored, 1)
  await assert.rejects(stranger.pool(database).query('SELECT usage_period()'), { code: '42501' })
})

/** Takes back the migration to one length of periods, and all later ones. */
async function takeBackPeriodLength(connectionString: string): Promise<void> {
  while ((await migrateDown({ connectionString })) !== '0004_usage_period');
}

async function planOf(pool: TestDatabase['pool'], statement: string): Promise<string> {
  const { rows } = await pool.query(`EXPLAIN (VERBOSE) ${statement}`)
  return rows.map(row => row['QUERY PLAN']).join('\n')
}

async function pendingUsage(pool: TestDatabase['pool']): Promise<unknown> {
  const { rows } = await pool.query(`
    SELECT p.*, p.ctid, (SELECT oid FROM pg_proc WHERE oid = 'usage_period_end()'::regprocedure),
      (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef
       WHERE adrelid = 'pending_usage'::regclass AND adnum = 1) AS default
    FROM pending_usage p`)
  assert.equal(rows.length, 1)
  return rows
}

async function periodEndFunction(pool: TestDatabase['pool']): Promise<unknown> {
  const { rows } = await pool.query(`
    SELECT pg_get_functiondef(oid) AS definition, obj_description(oid, 'pg_proc') AS comment
    FROM pg_proc WHERE proname LIKE 'usage_period%'`)
  return rows
}
