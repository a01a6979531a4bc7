import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { WorkspaceIdTypeError } from '../../src/errors.ts'
import { insertPendingUsage, markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import type { WorkspaceIdType } from '../../src/workspace-id.ts'
import { createTestDatabase } from '../support/database.ts'
import { hostDatabase, ID_HOSTS } from '../support/id-hosts.ts'
import { collectLog } from '../support/log-lines.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { pendingCount } from '../support/seed.ts'

const of = (name: string) => ID_HOSTS.find(host => host.name === name)!
const IDS: Record<WorkspaceIdType, string> = {
  uuid: '0b8f9f4e-2c55-4f11-9d0c-6a1f0c2b7a10',
  bigint: '9223372036854775807',
  integer: '7',
  text: 'seven',
}
const databases = {
  uuid: await createTestDatabase(),
  bigint: await hostDatabase(of('bigint')),
  integer: await hostDatabase(of('integer')),
  text: await hostDatabase(of('text')),
}

const WRONG: [sent: WorkspaceIdType, has: WorkspaceIdType][] = [
  ['uuid', 'bigint'],
  ['uuid', 'text'],
  ['bigint', 'uuid'],
  ['bigint', 'text'],
  ['bigint', 'integer'],
  ['text', 'bigint'],
  ['text', 'uuid'],
]
for (const [sent, has] of WRONG) {
  test(`ids that are sent as ${sent} to a database of ${has} are refused, and the error names both types`, async () => {
    const { pool } = databases[has]
    await assert.rejects(markUsage(pool, IDS[sent], { idType: sent }), {
      name: 'WorkspaceIdTypeError',
      idType: sent,
      databaseType: has,
      message: `workspace ids were sent as ${sent}, but in the database they are ${has}. Set the option idType: '${has}'.`,
    })
    const client = await pool.connect()
    await client.query('BEGIN')
    await assert.rejects(markUsage(client, IDS[sent], { idType: sent }), {
      name: 'WorkspaceIdTypeError',
      databaseType: null,
    })
    await client.query('ROLLBACK')
    client.release()
    assert.equal(await pendingCount(pool), 0)
  })
}

test('a tracker with the wrong type logs the error and keeps the marks', async () => {
  const log = collectLog()
  const tracker = new UsageTracker(databases.bigint.pool, { logger: log.logger })
  tracker.mark(IDS.uuid)
  const line = await until('the refusal is logged', () => log.find('refuses marks')[0])
  assert.ok(line?.fields.err instanceof WorkspaceIdTypeError)
  assert.deepEqual(await tracker.close({ timeoutMs: 0 }), { left: 1 })
})

test('ids that are numbers may be passed as numbers, bigints and strings, which are the same', async () => {
  const { pool } = databases.bigint
  await setPeriodLength(pool, CENTURY)
  const same = [7, 7n, '7']
  assert.deepEqual(await markUsage(pool, same, { idType: 'bigint', source: 'one' }), { marked: 1, stored: 1 })
  const tracker = new UsageTracker(pool, { idType: 'bigint', source: 'one' })
  for (const id of same) tracker.mark(id)
  await tracker.drain()
  for (const id of same) tracker.mark(id)
  await tracker.close()
  const { marked, deduplicated, stored } = tracker.stats()
  assert.deepEqual({ marked, deduplicated, stored }, { marked: 6, deduplicated: 5, stored: 1 })
  const { sql, parameters } = insertPendingUsage(['8'], 'one', { idType: 'bigint' })
  assert.equal((await pool.query(sql, [...parameters])).rowCount, 1)
  assert.throws(() => insertPendingUsage([], undefined, { idType: 'uuid[]); --' as 'uuid' }), {
    name: 'InvalidOptionError',
    option: 'idType',
  })
  await pool.query('TRUNCATE pending_usage')
})

test('a role that may only insert marks ids of any type', async () => {
  for (const [type, { pool }] of Object.entries(databases)) {
    await pool.query(
      `CREATE ROLE only_marks_${type}; GRANT INSERT (workspace_id, source) ON pending_usage TO only_marks_${type}`,
    )
    const client = await pool.connect()
    await client.query(`SET ROLE only_marks_${type}`)
    const idType = type as WorkspaceIdType
    assert.equal((await markUsage(client, IDS[idType], { idType })).stored, 1)
    await client.query('RESET ROLE')
    client.release()
    await pool.query(`TRUNCATE pending_usage; DROP OWNED BY only_marks_${type}; DROP ROLE only_marks_${type}`)
  }
})

test('to a collation that ignores case, two spellings are one mark, and both reach the workspace', async () => {
  const { pool } = await hostDatabase(of('text of a collation that ignores case'))
  await setPeriodLength(pool, CENTURY)
  assert.deepEqual(await markUsage(pool, ['plain', 'PLAIN'], { idType: 'text' }), { marked: 2, stored: 1 })
})

const REQUEST = 100_000
for (const [idType, id] of [
  ['uuid', (n: number) => `0b8f9f4e-2c55-4f11-9d0c-${String(n).padStart(12, '0')}`],
  ['text', (n: number) => `a workspace of the team ${n} é`],
] as const) {
  test(`an id of type ${idType} that was cut out of a request does not keep the request in memory`, () => {
    setFlagsFromString('--expose-gc')
    const collectGarbage: () => void = runInNewContext('gc')
    const used = () => {
      collectGarbage()
      return process.memoryUsage().heapUsed
    }
    const tracker = new UsageTracker(
      { query: () => new Promise(() => {}) },
      { idType, logger: collectLog().logger },
    )
    const before = used()
    for (let n = 0; n < 1_000; n++) {
      const request = Buffer.from(`${'x'.repeat(REQUEST)}${id(n)}`).toString()
      tracker.mark(request.slice(REQUEST))
    }
    assert.equal(tracker.stats().pending, 1_000)
    const kept = used() - before
    void tracker.close({ timeoutMs: 0 })
    assert.ok(kept < (1_000 * REQUEST) / 10, `${kept} bytes`)
  })
}
