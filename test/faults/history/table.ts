import Table from 'cli-table3'
import type { Totals } from './run.ts'

/** One check of a run. */
export interface Check {
  name: string
  count: number
  /** The largest count that is no violation. */
  allowed: number
}

/** The checks of a run. */
export function checksOf(totals: Totals): Check[] {
  const { verdict, waits, crashes } = totals
  const none = (name: string, count: number): Check => ({ name, count, allowed: 0 })
  return [
    none('acknowledged marks lost', verdict.lost),
    none('acknowledged marks not visible at once', totals.sightings.missed),
    none('last_used_at too early', verdict.tooEarly),
    none("last_used_at beyond the last mark's period", verdict.beyond),
    none('last_used_at moved backwards', verdict.movedBack),
    none('never marked, but moved', verdict.neverMarked),
    none('sources wrong', verdict.wrongSources),
    none('deadlocks', totals.deadlocks),
    none('waits of a flush for a tuple or a transaction', waits.flushOnRow),
    none('marks still pending after the last drain', totals.leftPending),
    none('marks that a tracker dropped or gave up', totals.notStored),
    none('unhandled rejections and warnings', totals.unhandled.length),
    none('errors that no fault explains', unexplained(totals.errors)),
    none('connections left', totals.leftConnections.length),
    none('listeners leaked', totals.leakedListeners),
    none(
      'runs in which nobody looked, or nothing was judged',
      verdict.judged * totals.sightings.looked === 0 ? 1 : 0,
    ),
    none('processes that failed or did not end', totals.failedProcesses.length),
    none('resets without a crash, or crashes without a reset', Math.abs(totals.resets - crashes)),
    none('workspaces whose flushed times a crash has lost', totals.flushedAndLost),
    {
      name: 'acknowledged marks lost in a crash of the server',
      count: verdict.lostInCrash,
      allowed: crashes > 0 ? Number.POSITIVE_INFINITY : 0,
    },
  ]
}

/** A broken connection, a server that stops or starts, and a session that the server ended. `none`: the driver's own. */
const BY_FAULTS = /^(none|08...|57...|25P03)$/

function unexplained(errors: Totals['errors']): number {
  const others = Object.entries(errors).filter(([state]) => !BY_FAULTS.test(state))
  return others.reduce((sum, [, count]) => sum + count, 0)
}

/** Whether a check failed. */
export function isViolated({ count, allowed }: Check): boolean {
  return count > allowed
}

/** The tables of a run, for people. */
export function describeRun(totals: Totals, seed: number): string {
  const checks = new Table({
    head: ['check', 'count', 'allowed', 'verdict'],
    style: PLAIN,
    colAligns: NUMBERS,
  })
  for (const check of checksOf(totals)) {
    const allowed = Number.isFinite(check.allowed) ? check.allowed : 'any'
    checks.push([check.name, digits(check.count), allowed, isViolated(check) ? 'VIOLATED' : 'ok'])
  }
  const sums = new Table({ head: ['total', 'count'], style: PLAIN, colAligns: ['left', 'right'] })
  for (const [name, count] of sumsOf(totals)) sums.push([name, count])
  return [
    checks.toString(),
    sums.toString(),
    `PostgreSQL ${totals.postgres}, Node ${process.version}, seed ${seed}, ${totals.seconds.toFixed(0)} s under faults`,
    ...examplesOf(totals),
  ].join('\n')
}

const PLAIN = { head: [], border: [], compact: true }
const NUMBERS = ['left', 'right', 'right', 'left'] as ('left' | 'right')[]

function sumsOf(totals: Totals): [string, string][] {
  const { marks, verdict, waits } = totals
  const counts: [string, number][] = [
    ['workspaces', totals.workspaces],
    ['calls that mark', marks.calls],
    ['marks acknowledged', marks.acknowledged],
    ['marks of unknown outcome', marks.unknown],
    ['marks rolled back or refused', marks['rolled back']],
    ['marks flushed, as far as it was heard', totals.flushed],
    ['flushes that had something to do', totals.flushes],
    ['times that a flush left a mark of a held workspace', totals.held],
    ['pairs of workspace and source judged', verdict.judged],
    ['pairs looked for during the run', totals.sightings.looked],
    ['transactions of the host', totals.operations],
    ['workspaces deleted', marks.deletions],
    ['looks at the locks', waits.looks],
    ...Object.entries(waits.flushOnOther).map(([on, count]): [string, number] => [
      `flush waited: ${on}`,
      count,
    ]),
    ...Object.entries(waits.queue).map(([on, count]): [string, number] => [`pg-boss waited: ${on}`, count]),
    ...Object.entries(totals.faults).map(([kind, count]): [string, number] => [`fault: ${kind}`, count]),
    ...Object.entries(totals.errors).map(([state, count]): [string, number] => [
      `error: SQLSTATE ${state}`,
      count,
    ]),
  ]
  return counts.map(([name, count]) => [name, digits(count)])
}

function examplesOf(totals: Totals): string[] {
  const { verdict, waits, sightings, unhandled, leftConnections, failedProcesses, errorTexts } = totals
  const unexplainedTexts = Object.entries(errorTexts).filter(([state]) => !BY_FAULTS.test(state))
  return [
    ...verdict.examples,
    ...unexplainedTexts.map(([state, text]) => `SQLSTATE ${state}: ${text}`),
    ...sightings.examples,
    ...waits.examples.map(text => `flush waited: ${text}`),
    ...unhandled.slice(0, 5).map(text => `unhandled: ${text}`),
    ...leftConnections.slice(0, 5).map(text => `connection left: ${text}`),
    ...failedProcesses.slice(0, 5),
  ]
}

function digits(count: number): string {
  return count.toLocaleString('en')
}
