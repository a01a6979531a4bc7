import assert from 'node:assert/strict'
import { test } from 'node:test'
import { migrate } from '../../src/schema/migrate.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts'
import { countMigrationStatements } from '../support/migration-statements.ts'
import { installOlderPgBoss } from '../support/older-pg-boss.ts'
import { runProgram } from '../support/process.ts'
import { catalogObjects } from '../support/schema-dump.ts'

/** So many runs at once, because most of a run is the start of its process. */
const AT_ONCE = 3

/** In how many places a run is killed. They start at a random one, so that many runs of this file try all places. */
const CASES = [
  { version: null, place: 'an empty database', kills: 36 },
  { version: '11.1.1', place: 'a database with pg-boss 11.1.1', kills: 18 },
] as const

for (const { version, place, kills } of CASES) {
  test(`migrate of ${place} finishes after a SIGKILL between two of its statements, wherever that is`, async () => {
    const whole = await prepare(version)
    const counted = countMigrationStatements()
    await migrate({ connectionString: whole.connectionString })
    counted.stop()
    const objects = await catalogObjects(whole.pool)
    const stride = counted.count / kills
    const first = 1 + Math.random() * stride
    const places = Array.from({ length: kills }, (_, index) => Math.floor(first + index * stride))
    const killNext = async () => {
      for (let at = places.shift(); at !== undefined; at = places.shift()) {
        const database = await prepare(version)
        const { connectionString } = database
        await runProgram('test/programs/killed-migration.ts', [connectionString, String(at)])
        await migrate({ connectionString })
        assert.deepEqual(await catalogObjects(database.pool), objects, `killed before statement ${at}`)
        const open = await database.pool.query("SELECT command FROM pgboss.bam WHERE status <> 'completed'")
        assert.deepEqual(open.rows, [], `killed before statement ${at}`)
        await database.drop()
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, killNext))
  })
}

async function prepare(version: '11.1.1' | null): Promise<TestDatabase> {
  const database = await createEmptyDatabase()
  if (version !== null) await installOlderPgBoss(database, version)
  return database
}
