import assert from 'node:assert/strict'
import { test } from 'node:test'
import { atLeast, type Measure, type Result, row } from '../../bench/measure.ts'
import { exitCode, type Outcome, runSuite } from '../../bench/suite.ts'

/* The suite runs measures that are made up, without a database. */

const stage = { server: '', major: 18, million: '', workspaces: 1_000, scaled: (number: number) => number }
const measures = (result: Partial<Result>): Result => ({ rows: ROWS, limits: '', targets: [], ...result })
const ROWS = [row('ours', 'ms', { median: 1, min: 1, max: 1, runs: 1 })]

const MET = measure('met', async () => measures({ targets: [atLeast('share', 0.9, 0.85)] }))
const MISSED = measure('missed', async () => measures({ targets: [atLeast('share', 0.8, 0.85)] }))
const BROKEN = measure('broken', async () => {
  throw new Error('no such table')
})

function measure(name: string, run: Measure['run'], more: Partial<Measure> = {}): Measure {
  return { name, title: `What ${name} measures`, run, ...more }
}

function runAll(list: Measure[]): Promise<Outcome[]> {
  return runSuite({ measures: list, stage, isThere: () => false })
}

test('a run in which each target is met ends with 0', async () => {
  assert.equal(exitCode(await runAll([MET]), { judged: true }), 0)
})

test('a run that misses a target ends with 1', async () => {
  assert.equal(exitCode(await runAll([MET, MISSED, MET]), { judged: true }), 1)
})

test('a run over a small table misses no target, because none is meant for it', async () => {
  assert.equal(exitCode(await runAll([MISSED]), { judged: false }), 0)
})

test('a measure that fails is told, the others still run, and the run ends with 1, also over a small table', async () => {
  const outcomes = await runAll([BROKEN, MET])
  assert.match(outcomes[0]!.failed!, /^no such table/)
  assert.deepEqual(outcomes[1]!.result?.targets.length, 1)
  assert.equal(exitCode(outcomes, { judged: true }), 1)
  assert.equal(exitCode(outcomes, { judged: false }), 1)
})

test('a measure whose program is missing is skipped with the reason, and the run ends with 0', async () => {
  const never = measure('redis', () => assert.fail('it ran'), { needs: 'redis-server' })
  const [outcome] = await runAll([never])
  assert.match(outcome!.skipped!, /no redis-server on PATH/)
  assert.equal(outcome!.result, undefined)
  assert.equal(exitCode([outcome!], { judged: true }), 0)
})

test('a measure can skip itself, or a part of itself', async () => {
  const skipped = 'the server runs elsewhere'
  const [all, part] = await runAll([
    measure('all', async () => measures({ rows: [], skipped })),
    measure('part', async () => measures({ skipped })),
  ])
  assert.equal(all!.skipped, skipped)
  assert.equal(all!.result, undefined)
  assert.equal(part!.skipped, undefined)
  assert.equal(part!.result!.skipped, skipped)
})

test('the steps of a measure are told with its place in the run', async () => {
  const steps: string[] = []
  const stepping = measure('stepping', async ({ progress }) => {
    progress('warming up')
    return measures({})
  })
  await runSuite({
    measures: [MET, stepping],
    stage,
    onStep: ({ name }, place, step) => steps.push(`${place} ${name} ${step}`),
  })
  assert.deepEqual(steps, ['2 stepping warming up'])
})
