import { MAX_TEXT_ID_LENGTH } from '../workspace-id.ts'

/** Shorter strings are never slices. */
const LEAST_SLICE = 13

/** Room for an id: a character takes at most four bytes. */
const ROOM = Buffer.alloc(4 * MAX_TEXT_ID_LENGTH)

/**
 * Returns a string of its own with the same characters. An id that was cut out of a request may be a slice, which keeps
 * the whole request in memory. An id that waits for a long outage, or is remembered for a period, must not do that.
 *
 * @param id A canonical id.
 */
export function ownString(id: string): string {
  return id.length < LEAST_SLICE ? id : ROOM.toString('utf8', 0, ROOM.write(id, 'utf8'))
}
