/**
 * What a tracker is doing.
 *
 * - `idle`: all marks are stored. The next mark starts sending.
 * - `sending`: a statement is under way, and others follow until no mark waits.
 * - `pausing`: the last statement failed. It is sent again after a pause.
 * - `closing`: `close` was called. New marks are ignored. Earlier ones are still sent, with short pauses after
 *   failures.
 * - `closed`: all marks are stored, or the timeout has passed. Nothing is sent any more.
 */
export type Mode = 'idle' | 'sending' | 'pausing' | 'closing' | 'closed'

/** Which mode may follow which. */
const NEXT: Record<Mode, readonly Mode[]> = {
  idle: ['sending', 'closing'],
  sending: ['idle', 'pausing', 'closing'],
  pausing: ['sending', 'closing'],
  closing: ['closed'],
  closed: [],
}

/**
 * Returns `wanted` if it may follow `mode`, otherwise `mode`. So a tracker that is closing stays so, whether its
 * statements succeed or fail.
 */
export function modeAfter(mode: Mode, wanted: Mode): Mode {
  return NEXT[mode].includes(wanted) ? wanted : mode
}

/** Whether marks are taken in that mode. */
export function takesMarks(mode: Mode): boolean {
  return mode !== 'closing' && mode !== 'closed'
}

/** Whether statements are sent in that mode. */
export function sends(mode: Mode): boolean {
  return mode !== 'closed'
}
