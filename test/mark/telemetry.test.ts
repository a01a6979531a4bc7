import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { before, beforeEach, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { metrics } from '@opentelemetry/api'
import pg from 'pg'
import type { Queryable } from '../../src/database/connection.ts'
import { InvalidWorkspaceIdError, NotMigratedError } from '../../src/errors.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import { temporaryDirectory } from '../package/installation.ts'
import { atEnd } from '../support/at-end.ts'
import { createEmptyDatabase, createTestDatabase, type TestDatabase } from '../support/database.ts'
import { startHalfOpenProxy } from '../support/half-open-proxy.ts'
import { collectLog } from '../support/log-lines.ts'
import { closeMarkGate } from '../support/mark-gate.ts'
import { type CollectedMetrics, collectMetrics } from '../support/metrics.ts'
import { CENTURY, setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { runProgram } from '../support/process.ts'
import { noteStatements } from '../support/statements.ts'

let database: TestDatabase
let pool: TestDatabase['pool']
let sdk: CollectedMetrics

before(async () => {
  database = await createTestDatabase()
  pool = database.pool
  await setPeriodLength(pool, CENTURY)
})

beforeEach(() => {
  sdk?.unregister()
  sdk = collectMetrics()
})

setFlagsFromString('--expose-gc')
const garbageCollect: () => void = runInNewContext('gc')

/** A source that no other test has: the metrics are those of the whole process. */
const newSource = () => `source ${randomUUID().slice(0, 8)}`

test('the metrics of marks have their names, units and types, and the source as their only attribute', async () => {
  const source = newSource()
  await using tracker = new UsageTracker(pool, { source })
  tracker.mark(randomUUID())
  await tracker.drain()
  assert.deepEqual(await sdk.described({ source }), {
    'workspace_usage.marks': 'counter {mark}',
    'workspace_usage.marks.deduplicated': 'counter {mark}',
    'workspace_usage.marks.stored': 'counter {mark}',
    'workspace_usage.marks.dropped': 'counter {mark}',
    'workspace_usage.mark_batch.retries': 'counter {retry}',
    'workspace_usage.tracker.pending': 'gauge {workspace}',
    'workspace_usage.mark_batch.duration': 'histogram s',
    'workspace_usage.mark_batch.size': 'histogram {mark}',
  })
})

test('the counters of marks are the sums of what the tracker counts, also of marks answered from memory', async () => {
  const source = newSource()
  await using tracker = new UsageTracker(pool, { source })
  const ids = Array.from({ length: 3 }, () => randomUUID())
  for (const id of ids) tracker.mark(id)
  await tracker.drain()
  // Not drained: what the SDK collects holds the last answers as well.
  for (let repeat = 0; repeat < 1_000; repeat++) tracker.mark(ids[repeat % 3]!)
  assert.deepEqual(await sdk.values({ source }), {
    marks: 1_003,
    'marks.deduplicated': 1_000,
    'marks.stored': 3,
    'marks.dropped': 0,
    'mark_batch.retries': 0,
    'tracker.pending': 0,
  })
  const { duration, size } = await batches(source)
  assert.deepEqual([size?.count, size?.sum, duration?.count], [1, 3, 1])
  assert.ok(duration!.sum! > 0 && duration!.sum! < 10, `${duration!.sum} s`)
})

test('a tracker without a source has the source application_name in the metrics', async () => {
  const source = 'application_name'
  const earlier = (await sdk.values({ source })).marks ?? 0
  await using tracker = new UsageTracker(pool)
  tracker.mark(randomUUID())
  await markUsage(pool, randomUUID())
  await tracker.drain()
  assert.equal((await sdk.values({ source })).marks, earlier + 2)
})

test('marks that wait are pending workspaces, and those above maxPending are dropped', async () => {
  const source = newSource()
  await using tracker = new UsageTracker(pool, { source, maxPending: 2, logger: collectLog().logger })
  await using gate = await closeMarkGate(database)
  const ids = Array.from({ length: 5 }, () => randomUUID())
  for (const id of ids) tracker.mark(id)
  const waiting = await sdk.values({ source })
  assert.deepEqual(
    [waiting['tracker.pending'], waiting['marks.dropped'], waiting['marks.stored'], waiting.marks],
    [2, 3, 0, 5],
  )
  await gate.open()
  await tracker.drain()
  const { 'tracker.pending': pending, 'marks.stored': stored, marks } = await sdk.values({ source })
  assert.deepEqual([pending, stored, marks], [0, 2, 5])
})

test('a workspace that waits and is under way as well is one pending workspace', async () => {
  const source = newSource()
  const id = randomUUID()
  const db = noteStatements(pool)
  await using tracker = new UsageTracker(db, { source })
  await using gate = await closeMarkGate(database)
  tracker.mark(id)
  await until('the statement is under way', () => db.sent.length === 1)
  tracker.mark(id)
  const { 'tracker.pending': pending, marks } = await sdk.values({ source })
  assert.deepEqual([pending, marks], [1, 2])
  await gate.open()
})

test('the trackers of one source add up, and the counts of a closed one stay', async () => {
  const source = newSource()
  const one = new UsageTracker(pool, { source })
  await using other = new UsageTracker(pool, { source })
  const id = randomUUID()
  for (const tracker of [one, other]) {
    tracker.mark(id)
    await tracker.drain()
    tracker.mark(id)
  }
  const sum = { marks: 4, 'marks.deduplicated': 2, 'marks.stored': 2, 'marks.dropped': 0 }
  assertPart(await sdk.values({ source }), sum)
  await one.close()
  assertPart(await sdk.values({ source }), sum)
  other.mark(id)
  assertPart(await sdk.values({ source }), { ...sum, marks: 5, 'marks.deduplicated': 3 })
})

test('marks that close gives up on are dropped, unless the statement under way stores them after all', async () => {
  const source = newSource()
  const { logger } = collectLog()
  const db = noteStatements(pool)
  const tracker = new UsageTracker(db, { source, logger })
  await using gate = await closeMarkGate(database)
  tracker.mark(randomUUID())
  await until('the statement is under way', () => db.sent.length === 1)
  tracker.mark(randomUUID())
  assert.deepEqual(await tracker.close({ timeoutMs: 20 }), { left: 2 })
  assertPart(await sdk.values({ source }), { marks: 2, 'marks.dropped': 0, 'tracker.pending': 2 })
  await gate.open()
  const settled = { marks: 2, 'marks.stored': 1, 'marks.dropped': 1, 'tracker.pending': 0 }
  await until('the statement is answered', async () => (await sdk.values({ source }))['marks.stored'] === 1)
  assertPart(await sdk.values({ source }), settled)
})

test('a tracker that nobody closed becomes garbage, and its counts stay', async () => {
  const source = newSource()
  const collected = await forgottenTracker(source)
  await until('the tracker is garbage', () => {
    garbageCollect()
    return collected()
  })
  const counts = { marks: 3, 'marks.stored': 1, 'marks.deduplicated': 2, 'tracker.pending': 0 }
  assertPart(await sdk.values({ source }), counts)
  // Another one of the source adds to them.
  await markUsage(pool, randomUUID(), { source })
  assertPart(await sdk.values({ source }), { ...counts, marks: 4, 'marks.stored': 2 })
})

for (const version of ['', 'on PostgreSQL 15, ']) {
  test(`${version}a failing batch counts its retries, and its durations have the SQLSTATE as error.type`, async t => {
    const on = version === '' ? undefined : await testServer15()
    if (on === null) return t.skip(POSTGRES_15_MISSING)
    await using failing = await createTestDatabase(on === undefined ? {} : { on })
    const source = newSource()
    await failing.pool.query('ALTER TABLE pending_usage RENAME TO pending_usage_away')
    await using tracker = new UsageTracker(failing.pool, { source, logger: collectLog().logger })
    for (let mark = 0; mark < 3; mark++) tracker.mark(randomUUID())
    await until('a retry fails', async () => tracker.stats().failedAttempts >= 2)
    const failures = (await batches(source, { 'error.type': '42P01' })).duration?.count
    assert.equal(failures, tracker.stats().failedAttempts)
    await failing.pool.query('ALTER TABLE pending_usage_away RENAME TO pending_usage')
    await tracker.drain()
    const { duration, size } = await batches(source)
    assert.deepEqual([duration?.count, size?.count, size?.sum], [1, 1, 3])
    assertPart(await sdk.values({ source }), {
      'mark_batch.retries': tracker.stats().failedAttempts,
      'marks.stored': 3,
      marks: 3,
    })
  })
}

test('a batch on a connection that fell silent fails with NoAnswerError, and is retried', async () => {
  const source = newSource()
  await using proxy = await startHalfOpenProxy(database.connectionString)
  const through = new pg.Pool({ connectionString: proxy.connectionString, max: 1 })
  through.on('error', () => {})
  atEnd(() => through.end())
  await using tracker = new UsageTracker(through, {
    source,
    statementTimeoutMs: 200,
    logger: collectLog().logger,
  })
  tracker.mark(randomUUID())
  await tracker.drain()
  proxy.silence()
  tracker.mark(randomUUID())
  await tracker.drain()
  const failed = (await batches(source, { 'error.type': 'NoAnswerError' })).duration
  assert.equal(failed?.count, 1)
  assert.ok(failed!.sum! >= 0.2 && failed!.sum! < 5, `${failed!.sum} s`)
  assertPart(await sdk.values({ source }), { 'mark_batch.retries': 1, 'marks.stored': 2 })
})

test('a connection that is refused has the code of Node.js as error.type', async () => {
  const source = newSource()
  const nowhere = new pg.Pool({ host: '127.0.0.1', port: 1 })
  await assert.rejects(markUsage(nowhere, randomUUID(), { source }))
  assert.equal((await batches(source, { 'error.type': 'ECONNREFUSED' })).duration?.count, 1)
  await nowhere.end()
})

test('markUsage counts the ids that it has stored, repeated ones as deduplicated, and records its duration', async () => {
  const source = newSource()
  const [one, other] = [randomUUID(), randomUUID()]
  await markUsage(pool, [one, other, one, one.toUpperCase()], { source })
  assertPart(await sdk.values({ source }), { marks: 4, 'marks.deduplicated': 2, 'marks.stored': 2 })
  const { duration, size } = await batches(source)
  assert.deepEqual([duration?.count, size?.count, size?.sum], [1, 1, 2])
  await markUsage(pool, [], { source })
  await assert.rejects(markUsage(pool, 'no id', { source }), InvalidWorkspaceIdError)
  assert.equal((await batches(source)).duration?.count, 1)
})

test('a failed markUsage counts no mark, and its duration has the error.type', async () => {
  const source = newSource()
  await using empty = await createEmptyDatabase()
  await assert.rejects(markUsage(empty.pool, randomUUID(), { source }), NotMigratedError)
  assert.equal((await batches(source, { 'error.type': '42P01' })).duration?.count, 1)
  assert.equal((await sdk.values({ source })).marks ?? 0, 0)
})

test('an SDK that is registered after the tracker was made is found with the next statement', async () => {
  sdk.unregister()
  const source = newSource()
  await using tracker = new UsageTracker(pool, { source })
  tracker.mark(randomUUID())
  await tracker.drain()
  sdk = collectMetrics()
  tracker.mark(randomUUID())
  await tracker.drain()
  // The counters hold what came before, the histograms do not.
  assertPart(await sdk.values({ source }), { marks: 2, 'marks.stored': 2 })
  assert.equal((await batches(source)).size?.count, 1)
})

test('an SDK that is taken away and registered again counts nothing twice', async () => {
  const source = newSource()
  await using tracker = new UsageTracker(pool, { source })
  metrics.disable()
  tracker.mark(randomUUID())
  await tracker.drain()
  metrics.setGlobalMeterProvider(sdk.provider)
  tracker.mark(randomUUID())
  await tracker.drain()
  assertPart(await sdk.values({ source }), { marks: 2, 'marks.stored': 2 })
  const counter = (await sdk.all()).get('workspace_usage.marks')
  assert.equal(counter?.dataPoints.filter(({ attributes }) => attributes.source === source).length, 1)
})

test('an SDK that throws costs no mark', async () => {
  sdk.unregister()
  const broken = () => {
    throw new Error('broken SDK')
  }
  metrics.setGlobalMeterProvider({ getMeter: broken } as never)
  const id = randomUUID()
  await using tracker = new UsageTracker(pool, { source: newSource() })
  tracker.mark(id)
  await tracker.drain()
  await markUsage(pool, randomUUID())
  assert.equal(tracker.stats().stored, 1)
  metrics.disable()
})

test('without an SDK a marking program loads no package of OpenTelemetry but the API', async () => {
  const loaded = join(await temporaryDirectory(), 'loaded.json')
  const program = join(dirname(loaded), 'program.mjs')
  await writeFile(
    program,
    `const { markUsage, UsageTracker } = await import(${JSON.stringify(new URL('../../src/mark/index.ts', import.meta.url).href)})
    const db = { query: async () => ({ rows: [], rowCount: 1 }) }
    const tracker = new UsageTracker(db)
    tracker.mark('ad0b51e0-4a1f-4f5c-9d4e-111111111111')
    await tracker.close()
    await markUsage(db, 'ad0b51e0-4a1f-4f5c-9d4e-111111111111')`,
  )
  const preload = new URL('../cli/loaded-modules.ts', import.meta.url).href
  const { code, stderr } = await runProgram(program, [], {
    env: { NODE_OPTIONS: `--import=${preload}`, LOADED_MODULES: loaded },
  })
  assert.equal(code, 0, stderr)
  const modules: string[] = JSON.parse(await readFile(loaded, 'utf8'))
  const packages = modules.flatMap(module => /node_modules\/(@[^/]+\/[^/]+|[^/]+)/.exec(module)?.[1] ?? [])
  assert.deepEqual([...new Set(packages)].sort(), ['@opentelemetry/api', 'leven'])
})

/** Makes a tracker, uses it and forgets it. Returns a function that tells whether it is garbage. */
async function forgottenTracker(source: string): Promise<() => boolean> {
  const answer = { remaining_ms: '100', period: 'one' }
  const db = { query: async () => ({ rows: [answer], rowCount: 1 }) } as unknown as Queryable
  const tracker = new UsageTracker(db, { source })
  const id = randomUUID()
  tracker.mark(id)
  await tracker.drain()
  tracker.mark(id)
  tracker.mark(id)
  tracker.stats()
  const reference = new WeakRef(tracker)
  return () => reference.deref() === undefined
}

async function batches(source: string, failure: { 'error.type'?: string } = {}) {
  const attributes = { source, ...failure }
  return {
    duration: await sdk.histogram('workspace_usage.mark_batch.duration', attributes),
    size: await sdk.histogram('workspace_usage.mark_batch.size', attributes),
  }
}

function assertPart(values: Record<string, number>, expected: Record<string, number>): void {
  const part = Object.fromEntries(Object.keys(expected).map(name => [name, values[name]]))
  assert.deepEqual(part, expected)
}
