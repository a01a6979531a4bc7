import { isMet, type Row, type Target } from '../measure.ts'

const NUMBERS = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 })

/** A number with three digits that count, such as 57,100 or 0.621. */
export function number(value: number): string {
  return Number.isNaN(value) ? '–' : NUMBERS.format(value)
}

/** How many times the first row of the same unit and group this row is. Empty for that first row itself. */
export function ratio(row: Row, rows: readonly Row[]): string {
  const first = rows.find(({ unit, group }) => unit === row.unit && group === row.group)!
  return first === row || first.median === 0 ? '' : `${number(row.median / first.median)} ×`
}

/** A target and its value, such as "at least 0.85 …: 0.91". */
export function promise({ text, value, limit, atMost, unit }: Target): string {
  const of = unit === undefined ? '' : ` ${unit}`
  return `${text}: ${number(value)}${of}, ${atMost ? 'at most' : 'at least'} ${number(limit)}${of}`
}

/** Whether it is met. Small tables say nothing about a target that is meant for a million workspaces. */
export function verdict(target: Target, judged: boolean): 'met' | 'missed' | 'not judged' {
  if (!judged) return 'not judged'
  return isMet(target) ? 'met' : 'missed'
}
