/** What a time of an import may be, in words. They follow "Write " in a refusal. */
const ALLOWED = 'ISO 8601 with a zone, such as 2026-03-01T12:00:00Z or 2026-03-01 13:00:00+01'

/** A time of an import as PostgreSQL reads it, or why it is none. */
export type ImportTime = { text: string } | { refusal: string; never?: boolean }

const ISO =
  /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?: ?([Zz]|[+-]\d\d(?::?\d\d)?))?$/
const SENTINEL = /^[+-]?infinity$/i
const DAY_MS = 86_400_000

/** Reads a time. The future is for the database to see, by its own clock. */
export function importTime(value: unknown): ImportTime {
  if (value instanceof Date) {
    if (Number.isNaN(value.getTime())) return { refusal: 'the time is an invalid Date' }
    return isNever(value.getTime()) ? NEVER : { text: value.toISOString() }
  }
  if (typeof value !== 'string' || value.trim() === '')
    return { refusal: `there is no time. Write ${ALLOWED}` }
  const text = value.trim()
  if (SENTINEL.test(text)) return NEVER
  if (/^-?\d+([.,]\d+)?$/.test(text))
    return { refusal: `the time ${quoted(text)} is only a number. Write ${ALLOWED}` }
  const parts = ISO.exec(text)
  if (!parts) return { refusal: `${quoted(text)} is not a time. Write ${ALLOWED}` }
  const [, year, month, day, hour, minute, second = '00', fraction = '', zone] = parts
  if (zone === undefined) return { refusal: `the time ${quoted(text)} has no zone. Write ${ALLOWED}` }
  const local = `${year}-${month}-${day}T${hour}:${minute}:${second}`
  const ms = Date.parse(`${local}Z`)
  // A Date takes 30 February for 2 March.
  const exists = !Number.isNaN(ms) && new Date(ms).toISOString().startsWith(local)
  const offset = offsetOf(zone)
  if (!exists || offset === null) return { refusal: `the time ${quoted(text)} does not exist` }
  if (isNever(ms - offset)) return NEVER
  return { text: `${local}.${fraction.slice(0, 6).padEnd(6, '0')}${offsetText(zone)}` }
}

/** What some hosts write if a workspace was never used. */
const NEVER: ImportTime = { refusal: 'the time stands for "never used"', never: true }

/** All that this package reads takes such a time as never. */
function isNever(ms: number): boolean {
  return ms < DAY_MS
}

/** An offset in milliseconds. Null if there is no such zone. */
function offsetOf(zone: string): number | null {
  if (/z/i.test(zone)) return 0
  const [hours, minutes] = [Number(zone.slice(1, 3)), Number(zone.slice(3).replace(':', ''))]
  if (hours > 15 || minutes > 59) return null
  return (zone.startsWith('-') ? -1 : 1) * (hours * 60 + minutes) * 60_000
}

function offsetText(zone: string): string {
  return /z/i.test(zone) ? 'Z' : `${zone.slice(0, 3)}:${zone.slice(3).replace(':', '') || '00'}`
}

function quoted(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
