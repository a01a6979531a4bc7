import { A_CONNECTION, type Connection } from '../database/connection.ts'
import { checkOption, checkOptions, integerWithin, type OptionRules } from '../options.ts'
import type { WorkspaceId } from '../workspace-id.ts'
import {
  type Interval,
  intervalsOf,
  minutesUsed,
  SLOT_MS,
  SLOTS_OF_A_DAY,
  sinceOf,
  slotOf,
  type UsedDay,
  within,
} from './intervals.ts'
import { readUsage, type SourceRows, type UsageRows } from './usage-rows.ts'

const DAY_MS = SLOTS_OF_A_DAY * SLOT_MS

/** The default of `breakSeconds`: five minutes, a slot of the history. */
export const DEFAULT_BREAK_SECONDS = 300

/** What a longest break may be, in seconds. */
export const A_BREAK = integerWithin(DEFAULT_BREAK_SECONDS, 86_400, 'seconds')

/** How much of the history can be asked for. */
export const MOST_DAYS = 400

/** Options of {@link usageHistory}. */
export interface HistoryOptions {
  /**
   * Of how many days: 1 to 400, today included, from midnight UTC on. Default: the last hours. How far the history
   * reaches depends on how long the worker keeps it.
   */
  days?: number
  /** Of how many hours until now: 1 to 9,600. Default 24. Not together with `days`. */
  hours?: number
  /**
   * The longest break that does not end an interval, in seconds: 300 to 86,400. Default 300. The history has slots of
   * five minutes, so an empty slot is a break of more than five minutes, two are one of more than ten.
   */
  breakSeconds?: number
}

/** What the options of {@link usageHistory} may be. */
export const HISTORY_OPTIONS: OptionRules<HistoryOptions> = {
  days: integerWithin(1, MOST_DAYS, 'days'),
  hours: integerWithin(1, MOST_DAYS * 24, 'hours, not together with days'),
  breakSeconds: A_BREAK,
}

/** When a workspace was used. */
export interface UsageHistory {
  /** The id that was asked for, in its canonical form. */
  workspaceId: string
  /** Whether the workspace is in `workspaces`. */
  exists: boolean
  /** Where the history that is told begins, and where it ends: the time of the answer by the database's clock. */
  from: Date
  asOf: Date
  /** The longest break that did not end an interval, in seconds. */
  breakSeconds: number
  /** The sources with a history, the one with the newest use first. They may have no use since `from`. */
  sources: SourceHistory[]
}

/** When one source used a workspace. */
export interface SourceHistory {
  source: string
  /** Whether it keeps a workspace alive: see `workspace-usage sources ignore`. */
  counts: boolean
  /** The times of use since {@link UsageHistory.from}, the oldest first. Those that go on from before begin there. */
  intervals: UsageInterval[]
  /** Minutes used since {@link UsageHistory.from}, in whole slots of five minutes. Bridged breaks do not count. */
  minutesUsed: number
  /**
   * Since when the source uses the workspace without a break, also if that is before {@link UsageHistory.from}. Null if
   * it is not in use now: the last use is over by more than the break.
   */
  since: Date | null
  /**
   * Whether it may be in use for longer than `since` tells. The history begins then: it is the first use on record of
   * this workspace, or of this source and right at midnight, because outdated days are removed. It is false if the
   * workspace was created then.
   */
  sinceAtLeast: boolean
}

/**
 * A time of use. The first use of a day and the last one are exact. All other ends are those of slots of five minutes.
 */
export interface UsageInterval {
  from: Date
  until: Date
}

/** Since when, as {@link SourceHistory} tells it. */
export type Since = Pick<SourceHistory, 'since' | 'sinceAtLeast'>

/**
 * Tells when each source used a workspace, and since when without a break. Pending usage counts, and a use until a time
 * ahead counts until now. All of it is of one moment.
 *
 * The flush keeps the history, so it lacks what was flushed with `sources: false` or by an older release.
 *
 * @param connection Where the statements run. The role needs what `workspace-usage grant --reader` gives.
 * @throws {InvalidOptionError} If an option is not allowed, or if there are both `days` and `hours`; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws {InvalidWorkspaceIdError} If the id is not one of the type that the database has.
 * @throws {NotMigratedError} If the views do not exist.
 * @throws {RowSecurityError} If row-level security may hide rows from the owner of the views.
 * @throws {StandbyError} On a standby.
 */
export async function usageHistory(
  connection: Connection,
  workspaceId: WorkspaceId,
  options: HistoryOptions = {},
): Promise<UsageHistory> {
  checkOption('connection', connection, A_CONNECTION)
  checkHistoryOptions(options)
  return historyOf(await readUsage(connection, workspaceId), options)
}

/** @throws As {@link usageHistory} for its options. */
export function checkHistoryOptions(options: HistoryOptions): void {
  checkOptions(options, HISTORY_OPTIONS)
  const { days, hours } = options
  if (days !== undefined && hours !== undefined)
    checkOption('hours', hours, { ...HISTORY_OPTIONS.hours, accepts: () => false })
}

/** The history in what was read. */
export function historyOf(rows: UsageRows, options: HistoryOptions): UsageHistory {
  const { workspaceId, exists, asOf, sources } = rows
  const { breakSeconds = DEFAULT_BREAK_SECONDS } = options
  const window = windowOf(asOf, options)
  const sinceOfSource = sinceIn(rows, breakSeconds)
  return {
    workspaceId,
    exists,
    from: new Date(window.from),
    asOf,
    breakSeconds,
    sources: sources
      .filter(({ days }) => days.length > 0)
      .map(source => ({
        source: source.source,
        counts: source.counts,
        intervals: within(intervalsOf(source.days, breakSeconds), window).map(asDates),
        minutesUsed: minutesUsed(source.days, window),
        ...sinceOfSource(source),
      })),
  }
}

function windowOf(asOf: Date, { days, hours = 24 }: HistoryOptions): Interval {
  const until = asOf.getTime()
  if (days === undefined) return { from: until - hours * 3_600_000, until }
  return { from: (Math.floor(until / DAY_MS) - (days - 1)) * DAY_MS, until }
}

/**
 * Tells since when each source uses the workspace. What is older may not be on record: before the history of the
 * workspace begins, and before the first day of the source. Outdated days are removed as a whole, so a use that begins
 * right at midnight may be older.
 */
export function sinceIn(
  { createdAt, asOf, sources }: UsageRows,
  breakSeconds: number,
): (source: SourceRows) => Since {
  const beginOf = (days: readonly UsedDay[]) => Math.min(...days.map(({ firstUsedAt }) => firstUsedAt))
  const begin = Math.min(...sources.map(({ days }) => beginOf(days)))
  const breakMs = breakSeconds * 1_000
  return ({ days }) => {
    const since = sinceOf(intervalsOf(days, breakSeconds), asOf.getTime(), breakSeconds)
    if (since === null) return { since: null, sinceAtLeast: false }
    const isFirst = slotOf(since) <= slotOf(beginOf(days))
    const isCutOff = slotOf(since) <= slotOf(begin) || since % DAY_MS <= breakMs
    // It can't have been in use before it was there.
    const isNew = createdAt !== null && createdAt.getTime() >= since - breakMs
    return { since: new Date(since), sinceAtLeast: isFirst && isCutOff && !isNew }
  }
}

function asDates({ from, until }: Interval): UsageInterval {
  return { from: new Date(from), until: new Date(until) }
}
