import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { Kysely, type KyselyPlugin, PostgresDialect } from 'kysely'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { createTestDatabase } from '../support/database.ts'
import { connectHostile, HOSTILE_SETTINGS } from '../support/hostile-connection.ts'
import { collectLog } from '../support/log-lines.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'

/*
 * No type parser, Kysely plugin or setting of a host changes what a mark stores, what markUsage answers, or which
 * repeats a tracker sends.
 */

const servers = { 18: undefined, 15: await testServer15() }

for (const major of [18, 15] as const) {
  const on = servers[major]
  suite(`a hostile connection on PostgreSQL ${major}`, { skip: on === null && POSTGRES_15_MISSING }, () => {
    const database = () => createTestDatabase(on ? { on } : {})

    test(`markUsage stores and counts the same whatever the driver and the session are set to, on PostgreSQL ${major}`, async () => {
      const db = await database()
      const hostile = connectHostile(db)
      await setPeriodLength(db.pool, CENTURY)
      for (const [name, connection] of hostile.each) {
        const ids = [randomUUID(), randomUUID()]
        assert.deepEqual(await markUsage(connection, ids), { marked: 2, stored: 2 }, name)
        assert.deepEqual(await markUsage(connection, [...ids, randomUUID()]), { marked: 3, stored: 1 }, name)
        assert.deepEqual(
          await markUsage(connection, ids, { source: "\\'ssh" }),
          { marked: 2, stored: 2 },
          name,
        )
        const { rows } = await db.pool.query(
          `SELECT source, period_end > now() AND period_end = usage_period_end() AS open FROM pending_usage
           WHERE workspace_id = $1 ORDER BY source`,
          [ids[0]],
        )
        assert.deepEqual(rows, [
          { source: "\\'ssh", open: true },
          { source: 'hostile', open: true },
        ])
      }
    })

    test(`a tracker stores every mark once and sends no repeat whatever the driver and the session are set to, on PostgreSQL ${major}`, async () => {
      const db = await database()
      const hostile = connectHostile(db)
      await setPeriodLength(db.pool, CENTURY)
      for (const [name, connection] of hostile.each) {
        await assertTracks(connection, name)
      }
    })

    test(`marks of the same workspaces at the same time do not fail under a default isolation of serializable, on PostgreSQL ${major}`, async () => {
      const db = await database()
      const hostile = connectHostile(db)
      await setPeriodLength(db.pool, 0.1)
      const ids = Array.from({ length: 40 }, () => randomUUID())
      const log = collectLog()
      const trackers = Array.from(
        { length: 5 },
        () => new UsageTracker(hostile.pool, { source: 'ssh', logger: log.logger }),
      )
      const track = async (tracker: UsageTracker) => {
        for (const id of ids) tracker.mark(id)
        await tracker.drain()
      }
      for (let round = 0; round < 60; round++) {
        const calls = Array.from({ length: 5 }, () => markUsage(hostile.pool, ids, { source: 'ssh' }))
        await Promise.all([...calls, ...trackers.map(track)])
      }
      for (const tracker of trackers) await tracker.close()
      assert.deepEqual(log.lines, [])
    })

    test(`any mixture of settings changes nothing for a tracker, on PostgreSQL ${major}`, async () => {
      const db = await database()
      await setPeriodLength(db.pool, CENTURY)
      await fc.assert(
        fc.asyncProperty(fc.subarray(Object.entries(HOSTILE_SETTINGS)), async settings => {
          const client = await db.connect()
          for (const [name, value] of settings) {
            // search_path is a list of names, and set_config takes it as text.
            await client.query('SELECT set_config($1, $2, false)', [name, value])
          }
          await assertTracks(client, settings.join(' '))
          await client.end()
        }),
        { numRuns: 25 },
      )
    })
  })
}

test('a plugin that changes every row and every statement of its Kysely instance does not see a mark', async () => {
  const db = await createTestDatabase()
  await setPeriodLength(db.pool, CENTURY)
  const plugin: KyselyPlugin = {
    transformQuery: () => assert.fail('the plugin saw the statement'),
    transformResult: () => assert.fail('the plugin saw the rows'),
  }
  const kysely = new Kysely({ dialect: new PostgresDialect({ pool: db.pool }), plugins: [plugin] })
  await assertTracks(kysely, 'a plugin')
  assert.deepEqual(await markUsage(kysely, randomUUID()), { marked: 1, stored: 1 })
  const id = randomUUID()
  await db.kysely
    .withPlugin(plugin)
    .transaction()
    .execute(async transaction => {
      assert.deepEqual(await markUsage(transaction, id), { marked: 1, stored: 1 })
      assert.deepEqual(await markUsage(transaction, id), { marked: 1, stored: 0 })
    })
})

/** Three workspaces are marked three times. Each is stored once, with one statement. */
async function assertTracks(
  connection: ConstructorParameters<typeof UsageTracker>[0],
  name: string,
): Promise<void> {
  const log = collectLog()
  const tracker = new UsageTracker(connection, { logger: log.logger })
  const ids = Array.from({ length: 3 }, () => randomUUID())
  for (let round = 0; round < 3; round++) {
    for (const id of ids) tracker.mark(id)
    await tracker.drain()
  }
  const { stored, deduplicated, failedAttempts } = tracker.stats()
  await tracker.close()
  assert.deepEqual(
    { stored, deduplicated, failedAttempts },
    { stored: 3, deduplicated: 6, failedAttempts: 0 },
    name,
  )
  assert.deepEqual(log.lines, [], name)
}
