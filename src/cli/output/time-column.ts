const MINUTE_MS = 60_000
const DAY_MS = 86_400_000
const MINUTES_OF_A_DAY = 1_440
const MAX_DAYS = 100_000

/** The days that were written, as `2026-03-01`. Lists of a million times have few days. */
const days = new Map<number, string>()
const TWO_DIGITS = Array.from({ length: 60 }, (_, number) => String(number).padStart(2, '0'))
const MILLISECONDS = Array.from({ length: 1_000 }, (_, ms) => `.${String(ms).padStart(3, '0')}Z`)

/**
 * Writes the times of one column of a list, in UTC. What it wrote for a minute is used again, because a list of a
 * million times that is sorted by them has many in each minute. That takes a tenth of the time of `toISOString`.
 */
export class TimeColumn {
  #minute = Number.NaN
  #day = ''
  #time = ''

  /** What `toISOString` writes: `2026-03-01T12:00:00.000Z`. */
  toMillisecond(ms: number): string {
    const rest = this.#restOfMinute(ms)
    const second = Math.floor(rest / 1_000)
    return `${this.#day}T${this.#time}${TWO_DIGITS[second]}${MILLISECONDS[rest - second * 1_000]}`
  }

  /** For people: `2026-03-01 12:00:00Z`. */
  toSecond(ms: number): string {
    const second = Math.floor(this.#restOfMinute(ms) / 1_000)
    return `${this.#day} ${this.#time}${TWO_DIGITS[second]}Z`
  }

  #restOfMinute(ms: number): number {
    const minute = Math.floor(ms / MINUTE_MS)
    if (minute !== this.#minute) {
      const day = Math.floor(ms / DAY_MS)
      const inDay = minute - day * MINUTES_OF_A_DAY
      const hour = Math.floor(inDay / 60)
      this.#minute = minute
      this.#day = days.get(day) ?? newDay(day)
      this.#time = `${TWO_DIGITS[hour]}:${TWO_DIGITS[inDay - hour * 60]}:`
    }
    return ms - minute * MINUTE_MS
  }
}

function newDay(day: number): string {
  const text = new Date(day * DAY_MS).toISOString().replace(/T.*/, '')
  if (days.size >= MAX_DAYS) days.clear()
  days.set(day, text)
  return text
}
