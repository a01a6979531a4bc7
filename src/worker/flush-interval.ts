import { InvalidOptionError } from '../errors.ts'

/** How a flush interval is kept: by pg-boss's cron, and below a minute by deferred jobs as well. */
export interface FlushInterval {
  /** The cron expression; for an interval below a minute, the watchdog that restarts a broken chain of jobs. */
  cron: string
  /** Seconds from one flush to the next deferred one; null if the cron is enough. */
  deferSeconds: number | null
}

const ALLOWED =
  '1 to 59, or whole minutes that divide an hour: 60, 120, 180, 240, 300, 360, 600, 720, 900, 1200, 1800, 3600'

/**
 * @param seconds 1 to 59, or a multiple of 60 whose minutes divide an hour, so that the cron is evenly spaced.
 * @throws {InvalidOptionError} For anything else.
 */
export function flushInterval(seconds: number): FlushInterval {
  if (Number.isInteger(seconds) && seconds >= 1 && seconds < 60)
    return { cron: '* * * * *', deferSeconds: seconds }
  const minutes = seconds / 60
  if (!Number.isInteger(minutes) || minutes < 1 || 60 % minutes !== 0) {
    throw new InvalidOptionError('flushIntervalSeconds', seconds, ALLOWED)
  }
  return { cron: cronEvery(minutes), deferSeconds: null }
}

function cronEvery(minutes: number): string {
  if (minutes === 1) return '* * * * *'
  return minutes === 60 ? '0 * * * *' : `*/${minutes} * * * *`
}
