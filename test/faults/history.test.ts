/*
 * A short run of the history check, and the judge itself: a check that can't fail is worth nothing.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { runProgram } from '../support/process.ts'
import { FAULT_KINDS, planFaults } from './history/fault-plan.ts'
import { type Found, judge } from './history/judge.ts'
import { HistoryLog, LATE_MS } from './history/log.ts'
import type { Outcome } from './history/messages.ts'
import { ArgumentError, readOptions } from './history/options.ts'
import { SOURCES, Universe } from './history/universe.ts'

const universe = new Universe(4)
/** A moment in the middle of a period, and the end of that period. */
const MOMENT = Date.UTC(2026, 0, 1, 12, 0, 0, 500)
const PERIOD_END = MOMENT + 500
const A_SECOND = 1_000

/** A history in which workspace 0 is marked by source 0, and what the tables should say then. */
function history({ outcome = 'acknowledged' }: { outcome?: Outcome } = {}): {
  log: HistoryLog
  found: Found
} {
  const log = new HistoryLog(universe.size)
  log.hear('writer', { type: 'intent', round: 1, source: 0, workspaces: [0] })
  const times = { before: MOMENT, stored: MOMENT + 5 }
  log.hear('writer', { type: 'outcome', round: 1, outcome, ...times, calls: 1, retried: false })
  const found = {
    lastUsedAt: new Float64Array(universe.size).fill(Number.NaN),
    bySource: new Float64Array(universe.size * SOURCES.length).fill(Number.NaN),
    movedBack: 0,
  }
  found.lastUsedAt[0] = PERIOD_END
  found.bySource[log.pair(0, 0)] = PERIOD_END
  return { log, found }
}

/** What the judge counts above zero. */
function violations({ log, found }: { log: HistoryLog; found: Found }): Record<string, number> {
  const { judged: _, examples, ...counts } = judge(log, found, universe.ids)
  const violated = Object.entries(counts).filter(([, count]) => count > 0)
  if (violated.length > 0 && counts.movedBack + counts.lostInCrash === 0) assert.ok(examples.length > 0)
  return Object.fromEntries(violated)
}

test('the judge of histories finds nothing wrong in a right history', () => {
  assert.deepEqual(violations(history()), {})
  const { log, found } = history()
  assert.equal(judge(log, found, universe.ids).judged, 1)
})

test('the judge of histories finds an acknowledged mark that is nowhere', () => {
  const { log, found } = history()
  found.lastUsedAt[0] = Number.NaN
  found.bySource[log.pair(0, 0)] = Number.NaN
  assert.deepEqual(violations({ log, found }), { lost: 1, tooEarly: 1 })
})

test('the judge of histories finds the last mark lost, although an earlier one was flushed', () => {
  const { log, found } = history()
  found.lastUsedAt[0] = MOMENT - 1
  found.bySource[log.pair(0, 0)] = MOMENT - 1
  assert.deepEqual(violations({ log, found }), { lost: 1, tooEarly: 1 })
})

test('the judge of histories finds a workspace that is earlier than its source', () => {
  const { log, found } = history()
  found.lastUsedAt[0] = MOMENT - 1
  assert.deepEqual(violations({ log, found }), { tooEarly: 1, wrongSources: 1 })
})

test("the judge of histories finds a time beyond the last mark's period", () => {
  const { log, found } = history()
  found.lastUsedAt[0] = PERIOD_END + A_SECOND
  found.bySource[log.pair(0, 0)] = PERIOD_END + A_SECOND
  assert.deepEqual(violations({ log, found }), { beyond: 1, wrongSources: 1 })
})

test('the judge of histories finds a workspace that moved and was never marked, and its source', () => {
  const { log, found } = history()
  found.lastUsedAt[1] = PERIOD_END
  found.bySource[log.pair(1, 2)] = PERIOD_END
  assert.deepEqual(violations({ log, found }), { neverMarked: 1, wrongSources: 1 })
})

test('the judge of histories finds a source that did not mark', () => {
  const { log, found } = history()
  found.bySource[log.pair(0, 1)] = PERIOD_END
  assert.deepEqual(violations({ log, found }), { wrongSources: 1 })
})

test('the judge of histories passes on how often a time moved backwards', () => {
  const { log, found } = history()
  assert.deepEqual(violations({ log, found: { ...found, movedBack: 3 } }), { movedBack: 3 })
})

test('the judge of histories asks for no mark that was rolled back, and counts it if it is there', () => {
  const { log, found } = history({ outcome: 'rolled back' })
  assert.deepEqual(violations({ log, found }), { neverMarked: 1, wrongSources: 1 })
  found.lastUsedAt[0] = Number.NaN
  found.bySource[log.pair(0, 0)] = Number.NaN
  assert.deepEqual(violations({ log, found }), {})
})

test('the judge of histories accepts a mark of unknown outcome either way, and late, but not at any time', () => {
  const { log, found } = history({ outcome: 'unknown' })
  assert.deepEqual(violations({ log, found }), {})
  for (const late of [LATE_MS, LATE_MS + A_SECOND]) {
    found.lastUsedAt[0] = PERIOD_END + late
    found.bySource[log.pair(0, 0)] = PERIOD_END + late
    assert.equal(Object.keys(violations({ log, found })).length, late > LATE_MS ? 2 : 0)
  }
  found.lastUsedAt[0] = Number.NaN
  found.bySource[log.pair(0, 0)] = Number.NaN
  assert.deepEqual(violations({ log, found }), {})
})

test('the judge of histories takes the marks of a killed writer as unknown', () => {
  const { log, found } = history()
  log.hear('killed', { type: 'intent', round: 1, source: 3, workspaces: [2] })
  log.ended('killed', MOMENT)
  assert.deepEqual(violations({ log, found }), {})
  found.lastUsedAt[2] = PERIOD_END
  found.bySource[log.pair(2, 3)] = PERIOD_END
  assert.deepEqual(violations({ log, found }), {})
})

test('the judge of histories asks for no mark that a deletion of its workspace covers, but for a later one', () => {
  const { log, found } = history()
  found.lastUsedAt[0] = Number.NaN
  found.bySource[log.pair(0, 0)] = Number.NaN
  log.hear('host', { type: 'deleting', round: 1, workspaces: [0] })
  log.hear('host', { type: 'deleted', round: 1, outcome: 'acknowledged', at: MOMENT + 10 })
  assert.deepEqual(violations({ log, found }), {})
  const later = { before: MOMENT + 20, stored: MOMENT + 25, calls: 1, retried: false }
  log.hear('writer', { type: 'intent', round: 2, source: 0, workspaces: [0] })
  log.hear('writer', { type: 'outcome', round: 2, outcome: 'acknowledged', ...later })
  assert.deepEqual(violations({ log, found }), { lost: 1, tooEarly: 1 })
})

test('the judge of histories counts apart what a crash of the server has lost, and nothing that came later', () => {
  const { log, found } = history()
  found.lastUsedAt[0] = Number.NaN
  found.bySource[log.pair(0, 0)] = Number.NaN
  log.crashes.push({ from: MOMENT - A_SECOND, to: MOMENT - 1 })
  assert.deepEqual(violations({ log, found }), { lost: 1, tooEarly: 1 })
  log.crashes.push({ from: MOMENT + 10, to: MOMENT + A_SECOND })
  assert.deepEqual(violations({ log, found }), { lostInCrash: 1 })
})

test('the faults of a history depend on the seed only, and the first 45 are of all kinds but a crash', () => {
  const faults = (seed: number) => {
    const plan = planFaults(seed, { crash: false })
    return Array.from({ length: 45 }, () => plan.next().value)
  }
  assert.deepEqual(faults(1), faults(1))
  assert.notDeepEqual(faults(1), faults(2))
  const kinds = new Set(faults(1).map(({ kind }) => kind))
  const crashes = ['crash the server', 'kill the postmaster']
  assert.deepEqual([...kinds].sort(), FAULT_KINDS.filter(kind => !crashes.includes(kind)).sort())
})

test('the history check refuses an argument that it does not understand, and says what is allowed', () => {
  const refused: [string[], RegExp][] = [
    [['--minutes', 'ten'], /^--minutes is "ten"; allowed: a number from 0\.1 to 600$/],
    [['--minutes', '0'], /^--minutes is "0"; allowed/],
    [['--seed', '1.5'], /^--seed is "1\.5"; allowed: a whole number from 0 to 4294967295$/],
    [['--postgres', '13'], /^--postgres is "13"; allowed: 15 or 18$/],
    [['--hours', '1'], /--hours/],
    [['soon'], /soon/],
  ]
  for (const [args, message] of refused) {
    assert.throws(
      () => readOptions(args),
      (error: unknown) => error instanceof ArgumentError && message.test(error.message),
    )
  }
  const { seed, ...rest } = readOptions([])!
  assert.ok(Number.isInteger(seed))
  assert.deepEqual(rest, { minutes: 1, postgres: '18', crash: false, json: false })
})

test('in ten seconds of faults no mark is lost, and no flush waits for anybody', async t => {
  const args = ['--minutes', '0.17', '--seed', '1', '--json']
  const { code, stdout, stderr } = await runProgram('test/faults/history.ts', args, { timeoutMs: 100_000 })
  assert.equal(code, 0, `${stdout}\n${stderr}`)
  const { marks, verdict, sightings, seconds, faults } = JSON.parse(stdout)
  const hit = Object.values(faults as Record<string, number>).reduce((sum, count) => sum + count, 0)
  t.diagnostic(
    `${marks.acknowledged} marks acknowledged, ${verdict.judged} pairs judged, ${verdict.lost} lost, ` +
      `${hit} faults in ${seconds.toFixed(0)} s`,
  )
  assert.ok(marks.acknowledged > 10_000, stdout)
  assert.ok(verdict.judged > 1_000, stdout)
  assert.ok(sightings.looked > 1_000, stdout)
  assert.ok(hit > 2, stdout)
})
