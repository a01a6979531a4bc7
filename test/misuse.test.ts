import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { PgBoss } from 'pg-boss'
import { lastFlush } from '../src/activity/last-flush.ts'
import { openPeriodRemaining, pendingStatus } from '../src/activity/status.ts'
import { createPool } from '../src/database/pool.ts'
import { InvalidOptionError } from '../src/errors.ts'
import { drain } from '../src/flush/drain.ts'
import { flush } from '../src/flush/flush.ts'
import type { Logger } from '../src/logger.ts'
import { markUsage } from '../src/mark/mark.ts'
import { migrate } from '../src/schema/migrate.ts'
import { migrateDown } from '../src/schema/migrate-down.ts'
import { FLUSH_QUEUE } from '../src/worker/queue.ts'
import { type FlushWorkerOptions, startFlushWorker } from '../src/worker/worker.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from './support/database.ts'
import { collectLog } from './support/log-lines.ts'

/** Nothing listens on this port, so a statement that is sent fails with another error than the expected one. */
const NOWHERE = 'postgres://127.0.0.1:1/nowhere'
const nowhere = createPool(NOWHERE, { applicationName: 'test', max: 1 })

const empty = await createEmptyDatabase()
const database = await createTestDatabase()
const readOnly = readOnlyUrl(database)
const client = await database.connect({ connectionString: readOnly })

const id = '0b8f9f4e-2c55-4f11-9d0c-6a1f0c2b7a10'
const notIds: [string, unknown, string][] = [
  ['of another type', 42, '42'],
  ['that is missing', undefined, 'undefined'],
  ['that is null', null, 'null'],
  ['that is empty', '', '""'],
  ['in braces', `{${id}}`, `"{${id}}"`],
  ['without hyphens', id.replaceAll('-', ''), `"${id.replaceAll('-', '')}"`],
  ['with a trailing newline', `${id}\n`, `"${id}\\n"`],
  ['that is not a UUID, among good ones,', [id, `${id}0`, id], `"${id}0"`],
  ['of great length', 'x'.repeat(1_000), `"${'x'.repeat(100)}…"`],
]
for (const [which, ids, quoted] of notIds) {
  test(`a workspace id ${which} is refused before anything is sent`, async () => {
    await assert.rejects(markUsage(nowhere, ids as string), {
      name: 'InvalidWorkspaceIdError',
      message:
        `not a UUID: ${quoted}. A workspace id has the form 00000000-0000-0000-0000-000000000000, ` +
        'in upper or lower case; pass the value of workspaces.id. ' +
        'In code, ids that are bigint, integer or text need the option idType.',
    })
  })
}

const notSources: [string, unknown, string][] = [
  ['of another type', 7, '7'],
  ['that is empty', '', '""'],
  ['of 64 characters', 's'.repeat(64), `"${'s'.repeat(64)}"`],
  ['of 64 emoji', '🦆'.repeat(64), `"${'🦆'.repeat(50)}…"`],
  ['with NUL', 'ssh\0', '"ssh\\u0000"'],
]
for (const [which, source, quoted] of notSources) {
  test(`a source ${which} is refused before anything is sent`, async () => {
    await assert.rejects(markUsage(nowhere, randomUUID(), { source: source as string }), {
      name: 'InvalidSourceError',
      message:
        `not a source: ${quoted}. A source is a text of 1 to 63 characters without NUL, and one of few ` +
        '(such as "ssh" or "vscode"): shorten it, or leave it out to use application_name.',
    })
  })
}

test('a source of 63 emoji is stored', async () => {
  const { pool } = await createTestDatabase()
  const source = '🦆'.repeat(63)
  await markUsage(pool, randomUUID(), { source })
  assert.deepEqual((await pool.query('SELECT source FROM pending_usage')).rows, [{ source }])
})

for (const batchSize of [0, 1.5, Number.NaN, 100_001]) {
  test(`a batchSize of ${batchSize} is refused before anything is sent`, async () => {
    const refusal = {
      name: 'InvalidOptionError',
      message: `batchSize is ${batchSize}; allowed: an integer from 1 to 100000.`,
    }
    await assert.rejects(flush(nowhere, { batchSize }), refusal)
    await assert.rejects(drain(nowhere, { batchSize }), refusal)
    await assert.rejects(startWorker({ batchSize }), refusal)
  })
}

for (const flushIntervalSeconds of [0, 0.5, 61, 90, 420, 7_200, Number.NaN]) {
  test(`a flushIntervalSeconds of ${flushIntervalSeconds} is refused before anything is sent`, async () => {
    await assert.rejects(startWorker({ flushIntervalSeconds }), {
      name: 'InvalidOptionError',
      message:
        `flushIntervalSeconds is ${flushIntervalSeconds}; allowed: 1 to 59 seconds, or whole minutes that ` +
        'divide an hour: 60, 120, 180, 240, 300, 360, 600, 720, 900, 1200, 1800, 3600 seconds.',
    })
  })
}

for (const flushTimeoutSeconds of [0, 0.05, 25.5, Number.POSITIVE_INFINITY, Number.NaN]) {
  test(`a flushTimeoutSeconds of ${flushTimeoutSeconds} is refused before anything is sent`, async () => {
    await assert.rejects(startWorker({ flushTimeoutSeconds }), {
      name: 'InvalidOptionError',
      message: `flushTimeoutSeconds is ${flushTimeoutSeconds}; allowed: 0.1 to 25 seconds.`,
    })
  })
}

const callsWithString: Record<string, (database: string, logger: Logger) => Promise<unknown>> = {
  migrate: (connectionString, logger) => migrate({ connectionString, logger }),
  migrateDown: (connectionString, logger) => migrateDown({ connectionString, logger }),
  startFlushWorker: (database, logger) => startFlushWorker({ database, logger }),
}
const URL_WORDS = 'a URL such as postgres://user@host:5432/database'
const wrongStrings: Record<string, [database: string, allowed: string]> = {
  'with a port that is no number': [
    'postgres://app:not-for-any-log@host:port/database',
    'a port from 1 to 65535',
  ],
  'without a scheme': ['app:not-for-any-log@host/database', URL_WORDS],
  "in libpq's other form": ['host=host user=app password=not-for-any-log', URL_WORDS],
}
for (const [name, call] of Object.entries(callsWithString)) {
  for (const [how, [database, allowed]] of Object.entries(wrongStrings)) {
    test(`a connection string ${how} is refused by ${name}, and shown neither in the error nor in the log`, async () => {
      const { logger, lines } = collectLog()
      await assert.rejects(call(database, logger), error => {
        assert.ok(error instanceof InvalidOptionError)
        assert.equal(
          error.message,
          `connectionString is "(not shown, it may hold a password)"; allowed: ${allowed}.`,
        )
        assert.doesNotMatch(inspect([error, lines], { depth: null, showHidden: true }), /not-for-any-log/)
        return true
      })
    })
  }
}

/** Each call, and the first object that it misses. */
const callsOfTables: Record<string, [missing: string, call: () => Promise<unknown>]> = {
  markUsage: ['pending_usage', () => markUsage(empty.pool, randomUUID())],
  flush: ['pending_usage_witness', () => flush(empty.pool)],
  drain: ['pending_usage_witness', () => drain(empty.kysely)],
  pendingStatus: ['pending_usage', () => pendingStatus(empty.pool)],
  lastFlush: ['pending_usage_witness', () => lastFlush(empty.pool)],
}
for (const [name, [missing, call]] of Object.entries(callsOfTables)) {
  test(`${name} reports a database that is not migrated, with the remedy`, async () => {
    await assert.rejects(call, notMigrated(`relation "${missing}" does not exist`))
  })
}

test('openPeriodRemaining reports a database that is not migrated, with the remedy', async () => {
  await assert.rejects(
    openPeriodRemaining(empty.pool),
    notMigrated('function usage_period_end() does not exist'),
  )
})

test('a worker reports a database that is not migrated, with the remedy', async () => {
  await assert.rejects(
    startWorker({ database: empty.connectionString }),
    notMigrated('pg-boss is not installed'),
  )
})

test('a worker reports a database that is not migrated, even if pg-boss is installed for the queues of the host', async () => {
  await using database = await createEmptyDatabase()
  await withBoss(database, async () => {})
  await assert.rejects(
    startWorker({ database: database.connectionString }),
    notMigrated('the pg-boss queue "workspace-usage-flush" does not exist'),
  )
})

test('a worker reports a database whose migrations were taken back', async () => {
  await using database = await createTestDatabase()
  const { connectionString } = database
  while ((await migrateDown({ connectionString })) !== null);
  await assert.rejects(
    startWorker({ database: connectionString }),
    notMigrated('relation "pending_usage" does not exist'),
  )
})

test('a flush queue with another policy is refused by the worker and by migrate, with the remedy', async () => {
  await using database = await createEmptyDatabase()
  await withBoss(database, boss => boss.createQueue(FLUSH_QUEUE, { policy: 'exclusive' }))
  const refusal = {
    name: 'QueuePolicyError',
    message:
      'the pg-boss queue "workspace-usage-flush" has the policy "exclusive"; expected "short". ' +
      "pg-boss can't change the policy of a queue: stop its workers, delete the queue " +
      "(pg-boss: deleteQueue('workspace-usage-flush'); pending marks stay where they are), " +
      'then run `workspace-usage migrate`.',
  }
  await assert.rejects(startWorker({ database: database.connectionString }), refusal)
  await assert.rejects(migrate({ connectionString: database.connectionString }), refusal)

  await withBoss(database, boss => boss.deleteQueue(FLUSH_QUEUE))
  await migrate({ connectionString: database.connectionString })
})

const cannotWrite = {
  name: 'StandbyError',
  message:
    'this server is a standby or in recovery, or the session is read-only: "pending_usage", an UNLOGGED ' +
    "table, can't be used there. Connect to the primary: use its own host name, or a name that follows the primary " +
    '(the node-postgres driver ignores target_session_attrs). If this is the primary, look at ' +
    'default_transaction_read_only of the role and the database.',
}
test('markUsage on a read-only session is refused, and the error says why', async () => {
  await assert.rejects(markUsage(client, randomUUID()), cannotWrite)
})

test('flush on a read-only session is refused, and the error says why', async () => {
  await assert.rejects(flush(client), cannotWrite)
})

test('a worker on read-only sessions is refused, and the error says why', async () => {
  await assert.rejects(startWorker({ database: readOnly }), cannotWrite)
})

test('migrate on a read-only session is refused, and the error says why', async () => {
  await assert.rejects(migrate({ connectionString: readOnlyUrl(empty) }), cannotWrite)
})

test('pendingStatus works on a read-only session', async () => {
  assert.deepEqual(await pendingStatus(client), {
    open: 0,
    closed: 0,
    held: 0,
    awaited: 0,
    refused: 0,
    until: 0,
    lagSeconds: 0,
  })
})

function readOnlyUrl({ connectionString }: TestDatabase): string {
  const url = new URL(connectionString)
  url.search = '?options=-c%20default_transaction_read_only%3Don'
  return url.href
}

async function startWorker(options: Partial<FlushWorkerOptions>): Promise<void> {
  const worker = await startFlushWorker({ database: NOWHERE, logger: collectLog().logger, ...options })
  // It should not have started. A running worker would keep this process alive.
  await worker.stop()
}

function notMigrated(missing: string) {
  return {
    name: 'NotMigratedError',
    message: `this database is not migrated: ${missing}. Run \`workspace-usage migrate\` against it first.`,
  }
}

/** Runs something with a pg-boss of the host, which installs itself. */
async function withBoss(database: TestDatabase, run: (boss: PgBoss) => Promise<unknown>): Promise<void> {
  const boss = new PgBoss({
    connectionString: database.connectionString,
    supervise: false,
    schedule: false,
  })
  boss.on('error', () => {})
  await boss.start()
  await run(boss)
  await boss.stop({ graceful: false })
}
