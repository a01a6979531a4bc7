import { type HistoryLog, periodEnd } from './log.ts'
import { SOURCES } from './universe.ts'

/** What the tables say at the end, in ms. NaN: no row, or no time. */
export interface Found {
  /** `workspaces.last_used_at`, by the number of the workspace. */
  lastUsedAt: Float64Array
  /** `workspace_usage.last_used_at`, by pair. */
  bySource: Float64Array
  /** Rows of either table that moved backwards or lost their time. */
  movedBack: number
}

/** What the judge counts. All must be zero, but the last. */
export interface Verdict {
  /** Pairs whose last acknowledged mark is in no row of `workspace_usage`. */
  lost: number
  /** Workspaces whose `last_used_at` is earlier than their last acknowledged mark. */
  tooEarly: number
  /** Workspaces whose `last_used_at` is later than the period of the last mark that can have been stored. */
  beyond: number
  movedBack: number
  /** Workspaces that nobody marked, and that have a time. */
  neverMarked: number
  /** Rows of `workspace_usage` that nobody marked, that are too late, or that differ from their workspace. */
  wrongSources: number
  /** Pairs that were lost, but marked before the end of a crash of the server. */
  lostInCrash: number
  /** Pairs with an acknowledged mark that no deletion covers: those that could be lost. */
  judged: number
  /** A few violations in words. */
  examples: string[]
}

const MAX_EXAMPLES = 10

/** Compares what was said with what is there. */
export function judge(log: HistoryLog, found: Found, ids: readonly string[]): Verdict {
  const verdict: Verdict = {
    lost: 0,
    tooEarly: 0,
    beyond: 0,
    movedBack: found.movedBack,
    neverMarked: 0,
    wrongSources: 0,
    lostInCrash: 0,
    judged: 0,
    examples: [],
  }
  const lastCrash = log.crashes.at(-1)?.to ?? Number.NEGATIVE_INFINITY
  for (let workspace = 0; workspace < ids.length; workspace++) {
    judgeWorkspace({ log, found, verdict, workspace, id: ids[workspace]!, lastCrash })
  }
  return verdict
}

interface Case {
  log: HistoryLog
  found: Found
  verdict: Verdict
  workspace: number
  id: string
  lastCrash: number
}

function judgeWorkspace({ log, found, verdict, workspace, id, lastCrash }: Case): void {
  const deleted = log.deleted[workspace]!
  const used = found.lastUsedAt[workspace]!
  let required = Number.NEGATIVE_INFINITY
  let possible = Number.NEGATIVE_INFINITY
  let newest = Number.NEGATIVE_INFINITY
  for (let source = 0; source < SOURCES.length; source++) {
    const pair = log.pair(workspace, source)
    const acknowledged = log.acknowledged[pair]!
    const written = found.bySource[pair]!
    possible = Math.max(possible, log.possible[pair]!)
    if (!Number.isNaN(written)) newest = Math.max(newest, written)
    if (acknowledged > deleted) {
      verdict.judged++
      if (written >= acknowledged) required = Math.max(required, acknowledged)
      else if (acknowledged <= lastCrash) verdict.lostInCrash++
      else {
        required = Math.max(required, acknowledged)
        verdict.lost++
        tell(verdict, `lost: ${id} by "${SOURCES[source]}", marked ${at(acknowledged)}, is ${at(written)}`)
      }
    }
    if (written > periodEnd(log.possible[pair]!)) {
      verdict.wrongSources++
      const latest = at(log.possible[pair]!)
      tell(verdict, `wrong source: ${id} by "${SOURCES[source]}", marked until ${latest}, is ${at(written)}`)
    }
  }
  if (required > Number.NEGATIVE_INFINITY && !(used >= required)) {
    verdict.tooEarly++
    tell(verdict, `too early: ${id}, marked ${at(required)}, is ${at(used)}`)
  }
  if (Number.isNaN(used)) {
    if (newest > Number.NEGATIVE_INFINITY) differs(verdict, id, newest, used)
    return
  }
  if (possible === Number.NEGATIVE_INFINITY) {
    verdict.neverMarked++
    tell(verdict, `never marked: ${id} is ${at(used)}`)
  } else if (used > periodEnd(possible)) {
    verdict.beyond++
    tell(verdict, `beyond its last period: ${id}, marked until ${at(possible)}, is ${at(used)}`)
  }
  if (newest !== used) differs(verdict, id, newest, used)
}

function differs(verdict: Verdict, id: string, newest: number, used: number): void {
  verdict.wrongSources++
  tell(verdict, `wrong source: ${id} is ${at(used)}, and its newest source ${at(newest)}`)
}

function tell({ examples }: Verdict, text: string): void {
  if (examples.length < MAX_EXAMPLES) examples.push(text)
}

/** A time for people, to the millisecond. */
function at(ms: number): string {
  return Number.isFinite(ms) ? new Date(ms).toISOString() : 'never'
}
