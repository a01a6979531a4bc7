/**
 * What a tracker is doing.
 *
 * - `idle`: all marks are stored. The next mark starts sending.
 * - `sending`: a statement is under way, and others follow until no mark waits.
 * - `pausing`: the last statement failed, and is sent again after a pause.
 * - `closing`: `close` was called. Further marks are ignored. Those made before are sent, with short pauses.
 * - `closed`: all is stored, or the timeout has passed. Nothing is sent any more.
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
 * The mode after `mode` if something asks for `wanted`. A mode that may not follow is ignored: a tracker that is
 * closing goes on closing, whatever becomes of its statements.
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
