import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import type { Connection } from '../../src/database/connection.ts'
import { createPool } from '../../src/database/pool.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { UsageTracker, type UsageTrackerOptions } from '../../src/mark/tracker.ts'
import { collectLog } from '../support/log-lines.ts'

/** Nothing listens on this port, so every statement fails. */
const nowhere = createPool('postgres://127.0.0.1:1/nowhere', { applicationName: 'test', max: 1 })

const id = '0b8f9f4e-2c55-4f11-9d0c-6a1f0c2b7a10'
const malformed: [string, unknown, string][] = [
  ['of another type', 42, '42'],
  ['that is missing', undefined, 'undefined'],
  ['that is null', null, 'null'],
  ['that is an object', { id }, '[object Object]'],
  ['that is empty', '', '""'],
  ['in braces', `{${id}}`, `"{${id}}"`],
  ['with a trailing newline', `${id}\n`, `"${id}\\n"`],
  ['of great length', 'x'.repeat(1_000), `"${'x'.repeat(100)}…"`],
]
for (const [name, value, quoted] of malformed) {
  test(`mark of a tracker refuses an id ${name}, also after close, and does not count it`, async () => {
    const refusal = {
      name: 'InvalidWorkspaceIdError',
      value,
      message:
        `not a UUID: ${quoted}. A workspace id has the form 00000000-0000-0000-0000-000000000000, ` +
        'in upper or lower case; pass the value of workspaces.id. ' +
        'In code, ids that are bigint, integer or text need the option idType.',
    }
    const log = collectLog()
    const tracker = new UsageTracker(nowhere, { logger: log.logger })
    assert.throws(() => tracker.mark(value as string), refusal)
    assert.deepEqual(await tracker.close(), { left: 0 })
    assert.throws(() => tracker.mark(value as string), refusal)
    assert.equal(tracker.stats().marked, 0)
    assert.deepEqual(log.lines, [])
  })
}

for (const maxPending of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 16_000_001]) {
  test(`a tracker refuses maxPending ${maxPending}`, () => {
    assertRefused(
      { maxPending },
      'InvalidOptionError',
      `maxPending is ${maxPending}; allowed: an integer from 1 to 16000000.`,
    )
  })
}

test('a tracker refuses a maxPending of another type', () => {
  const maxPending = '10' as unknown as number
  assertRefused(
    { maxPending },
    'InvalidOptionError',
    'maxPending is "10"; allowed: an integer from 1 to 16000000.',
  )
})

for (const [source, quoted] of [
  ['', '""'],
  ['s'.repeat(64), `"${'s'.repeat(64)}"`],
  ['ssh\0', '"ssh\\u0000"'],
  [7, '7'],
] as [string, string][]) {
  test(`a tracker refuses the source ${quoted}`, () => {
    assertRefused(
      { source },
      'InvalidSourceError',
      `not a source: ${quoted}. A source is a text of 1 to 63 characters without NUL, and one of few ` +
        '(such as "ssh" or "vscode"): shorten it, or leave it out to use application_name.',
    )
  })
}

for (const timeoutMs of [-1, 0.5, Number.NaN, 2_147_483_648]) {
  test(`close of a tracker refuses timeoutMs ${timeoutMs}, and the tracker stays open`, async () => {
    const log = collectLog()
    const tracker = new UsageTracker(nowhere, { logger: log.logger })
    await assert.rejects(tracker.close({ timeoutMs }), {
      name: 'InvalidOptionError',
      option: 'timeoutMs',
      message: `timeoutMs is ${timeoutMs}; allowed: an integer from 0 to 2147483647.`,
    })
    tracker.mark(randomUUID())
    assert.equal(tracker.stats().pending, 1)
    await tracker.close({ timeoutMs: 0 })
    assert.deepEqual(log.find('developer error'), [])
  })
}

const noConnections: [unknown, string][] = [
  ['postgres://127.0.0.1/app', '"postgres://127.0.0.1/app"'],
  [undefined, 'undefined'],
  [null, 'null'],
  [{}, '[object Object]'],
]
for (const [db, quoted] of noConnections) {
  test(`a tracker and markUsage refuse the connection ${quoted}`, async () => {
    const allowed = 'a pg Pool or Client, PGlite, or a Kysely instance'
    assert.throws(() => new UsageTracker(db as Connection), {
      name: 'InvalidOptionError',
      option: 'db',
      message: `db is ${quoted}; allowed: ${allowed}.`,
    })
    await assert.rejects(markUsage(db as Connection, id), {
      name: 'InvalidOptionError',
      option: 'connection',
      message: `connection is ${quoted}; allowed: ${allowed}.`,
    })
  })
}

test("close of a tracker that can't reach its database says how many marks are not stored", async () => {
  const log = collectLog()
  const tracker = new UsageTracker(nowhere, { logger: log.logger })
  tracker.mark(randomUUID())
  tracker.mark(randomUUID())
  const drained = assert.rejects(tracker.drain(), {
    name: 'MarksNotStoredError',
    left: 2,
    timeoutMs: 20,
    message:
      '2 marks are not stored: the tracker was closed and gave up after 20 ms. ' +
      'Pass close a longer timeoutMs, or look at the logged error of the last attempt.',
  })
  assert.deepEqual(await tracker.close({ timeoutMs: 20 }), { left: 2 })
  await drained
  assert.equal(log.find('closed with marks that are not stored').length, 1)
})

function assertRefused(options: UsageTrackerOptions, name: string, message: string): void {
  assert.throws(() => new UsageTracker(nowhere, options), { name, message })
}
