import { type Allowed, whatever } from '../options.ts'

/** The default number of seconds between flushes. */
export const DEFAULT_FLUSH_INTERVAL_SECONDS = 60

/** The minutes that divide an hour. A cron expression can repeat only these evenly. */
const MINUTES = [1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30, 60]

/** What `flushIntervalSeconds` may be. */
export const FLUSH_INTERVAL: Allowed = whatever(
  `1 to 59 seconds, or whole minutes that divide an hour: ${MINUTES.map(minutes => minutes * 60).join(', ')} seconds`,
  seconds =>
    (Number.isInteger(seconds) && isBelowAMinute(seconds as number)) ||
    MINUTES.some(minutes => minutes * 60 === seconds),
)

/** How an interval is kept: by pg-boss's cron, and below a minute also by deferred jobs. */
export interface FlushInterval {
  /** The cron expression. Below a minute it is only there to restart a broken chain of deferred jobs. */
  cron: string
  /** Seconds from one flush to the next deferred one. Null if the cron is enough. */
  deferSeconds: number | null
}

/** @param seconds One of {@link FLUSH_INTERVAL}. */
export function flushInterval(seconds: number): FlushInterval {
  if (isBelowAMinute(seconds)) return { cron: cronEvery(1), deferSeconds: seconds }
  return { cron: cronEvery(seconds / 60), deferSeconds: null }
}

/** Returns the interval of a cron expression that {@link flushInterval} made. Default for any other: a minute. */
export function intervalOfCron(cron: string): number {
  return (MINUTES.find(minutes => cronEvery(minutes) === cron) ?? 1) * 60
}

function isBelowAMinute(seconds: number): boolean {
  return seconds >= 1 && seconds < 60
}

function cronEvery(minutes: number): string {
  if (minutes === 1) return '* * * * *'
  return minutes === 60 ? '0 * * * *' : `*/${minutes} * * * *`
}
