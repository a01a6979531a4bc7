/*
 * A time as text. PostgreSQL writes a timestamptz as DateStyle and TimeZone say, and a host's driver may parse it in a
 * way of its own. So statements of this package write each time as text in one format, and read it back here.
 */

/**
 * The SQL for a time as text: ISO 8601 in UTC, to the microsecond. No setting changes it. PostgreSQL reads it back
 * exactly. NULL stays NULL.
 *
 * @param time SQL of a finite timestamptz.
 */
export function asIsoText(time: string): string {
  return `to_char((${time}) AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
}

const ISO_TEXT = /^(\d{4,})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{3})\d{3}Z$/

/** The last moment that a `Date` can hold. PostgreSQL can hold later ones. */
const LAST_DATE_MS = 8_640_000_000_000_000

/**
 * Reads what {@link asIsoText} wrote, to the millisecond, rounded down. A time too late for a `Date` becomes the last
 * one.
 *
 * @throws {TypeError} If the text has another format.
 */
export function parseIsoText(text: string): Date {
  const parts = ISO_TEXT.exec(text)
  if (!parts) throw new TypeError(`not a time as this package writes it: ${JSON.stringify(text)}`)
  const [year, month, day, hour, minute, second, millisecond] = parts.slice(1).map(Number)
  const date = new Date(0)
  // Not Date.UTC, because that reads the years 0 to 99 as of the 20th century.
  date.setUTCFullYear(year!, month! - 1, day!)
  date.setUTCHours(hour!, minute!, second!, millisecond!)
  return Number.isNaN(date.getTime()) ? new Date(LAST_DATE_MS) : date
}

/** The length of what {@link asHexText} writes. */
export const HEX_TEXT_LENGTH = 16

/** 2000-01-01, where PostgreSQL counts from, in microseconds since 1970. */
const POSTGRES_EPOCH = 946_684_800_000_000

/**
 * The SQL for a time as text for a million rows: the eight bytes that PostgreSQL sends a driver, in hex. It takes an
 * eighth of the time of {@link asIsoText}. No setting changes it. NULL stays NULL.
 *
 * @param time SQL of a timestamptz.
 */
export function asHexText(time: string): string {
  return `encode(timestamptz_send(${time}), 'hex')`
}

/**
 * Reads what {@link asHexText} wrote.
 *
 * @returns Microseconds since 1970. They are exact up to the year 2255, where numbers have no more digits.
 */
export function parseHexText(hex: string): number {
  // In two halves, because a number has no 64 bits. The first half has the sign.
  const high = Number.parseInt(hex.slice(0, 8), 16) | 0
  const low = Number.parseInt(hex.slice(8), 16)
  return high * 0x1_0000_0000 + low + POSTGRES_EPOCH
}

/** Microseconds since 1970 as those of a `Date`, rounded down. A time too late for a `Date` becomes the last one. */
export function msOfMicroseconds(microseconds: number): number {
  return Math.min(Math.floor(microseconds / 1_000), LAST_DATE_MS)
}

/**
 * Microseconds since 1970 in the format of {@link asIsoText}.
 *
 * @param microseconds A time from 1970 to 2255.
 */
export function isoTextOf(microseconds: number): string {
  const rest = String(microseconds % 1_000).padStart(3, '0')
  return new Date(msOfMicroseconds(microseconds)).toISOString().replace('Z', `${rest}Z`)
}
