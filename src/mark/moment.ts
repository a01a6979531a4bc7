/**
 * A moment by both clocks of this process. `steady` is `performance.now()`. Nobody can set it, but it stands still while
 * the machine sleeps. `wall` is `Date.now()`. It goes on during sleep, but may be set forwards and backwards.
 */
export interface Moment {
  readonly steady: number
  readonly wall: number
}

/** It is over. */
export const LONG_AGO: Moment = { steady: Number.NEGATIVE_INFINITY, wall: Number.NEGATIVE_INFINITY }

/** This moment. */
export function now(): Moment {
  return { steady: performance.now(), wall: Date.now() }
}

/** The moment some milliseconds later. */
export function later(moment: Moment, ms: number): Moment {
  return { steady: moment.steady + ms, wall: moment.wall + ms }
}

/**
 * Milliseconds until a moment, by the clock that says less. So a sleep and a clock set forwards can make a period seem
 * to end too early, which costs a statement. A clock set backwards changes nothing. NaN if the moment is not known.
 */
export function msUntil(moment: Moment): number {
  return Math.min(moment.steady - performance.now(), moment.wall - Date.now())
}
