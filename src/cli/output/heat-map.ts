import { styleText } from 'node:util'
import Table from 'cli-table3'
import { SLOT_MS, usedSlots } from '../../activity/intervals.ts'
import type { SourceRows, UsageRows } from '../../activity/usage-rows.ts'
import type { Output } from '../terminal.ts'
import {
  ASCII,
  BLOCKS,
  bar,
  type Cells,
  cellInWords,
  cellsOfADay,
  formatMinutes,
  hours,
  isIn,
  lastDay,
  midnights,
  wholeDay,
} from './heat-bar.ts'
import { printable } from './printable.ts'

/** How a map is drawn. */
export interface MapSettings {
  /** Where it is printed. It tells the width, and whether there are colours. */
  output: Output
  ascii: boolean
}

/** A row of a map. Without cells it is a heading. */
interface MapRow {
  label: string
  counts: boolean
  slots: ReadonlySet<number>
  cells?: Cells
}

/** A longer label is cut off. With this one, and a character for each half an hour, a line has 80 characters. */
const LONGEST_LABEL = 17

/** The width if the output is no terminal. */
const DEFAULT_WIDTH = 80

/** Between two columns. */
const GAP = 2

/** Draws the last 24 hours: a row for each source that used the workspace then. */
export function mapOfLastDay({ sources, asOf }: UsageRows, settings: MapSettings): string {
  const now = asOf.getTime()
  const cells = lastDay(now, cellsOfADay(widthOfBar(sources, settings)))
  const rows: MapRow[] = sources.map(source => rowOf(source, source.source, cells)).filter(isUsed)
  if (rows.length === 0) return 'no use in the last 24 hours is on record'
  const counted = rows.filter(({ counts }) => counts)
  if (counted.length > 1) {
    const slots = new Set(counted.flatMap(({ slots }) => [...slots]))
    rows.push({ label: 'all that count', counts: true, slots, cells })
  }
  return draw(`the last 24 hours until ${time(now)} UTC`, rows, { now, cells, ...settings })
}

/** Draws days of UTC: a row for each day of each source. */
export function mapOfDays({ sources, asOf }: UsageRows, from: Date, settings: MapSettings): string {
  const now = asOf.getTime()
  const days = midnights(from.getTime(), now)
  const count = cellsOfADay(widthOfBar(sources, settings))
  const rows = sources.flatMap((source): MapRow[] => {
    const ofDays = days.map(midnight => rowOf(source, dayName(midnight), wholeDay(midnight, count)))
    return ofDays.some(isUsed) ? [rowOf(source, source.source), ...ofDays] : []
  })
  const title = days.length === 1 ? 'today' : `the last ${days.length} days`
  if (rows.length === 0) return `no use of ${title} is on record`
  return draw(`${title} in UTC`, rows, { now, cells: wholeDay(days[0]!, count), ...settings })
}

function rowOf({ days, counts }: SourceRows, label: string, cells?: Cells): MapRow {
  return { label: printable(label), counts, slots: usedSlots(days), ...(cells && { cells }) }
}

function isUsed(row: MapRow): boolean {
  return usedIn(row) > 0
}

/** How many slots of its cells are used. */
function usedIn({ slots, cells }: MapRow): number {
  return cells === undefined ? 0 : [...slots].filter(slot => isIn(slot, cells)).length
}

function widthOfBar(sources: readonly SourceRows[], { output }: MapSettings): number {
  const label = Math.max('all that count'.length, ...sources.map(({ source }) => printable(source).length))
  const width = (output.isTTY && output.columns) || DEFAULT_WIDTH
  return width - Math.min(LONGEST_LABEL, label) - 2 * GAP - '23 h 55 min'.length
}

/** The table knows how wide a text is on a terminal. It cuts off the labels that are too long. */
function draw(
  title: string,
  rows: readonly MapRow[],
  { now, cells, output, ascii }: MapSettings & { now: number; cells: Cells },
): string {
  const shades = ascii ? ASCII : BLOCKS
  const isLong = rows.some(({ label }) => label.length > LONGEST_LABEL)
  const table = new Table({
    chars: NO_LINES,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': GAP, compact: true },
    truncate: ascii ? '~' : '…',
    ...(isLong && { colWidths: [LONGEST_LABEL + GAP] }),
  })
  table.push(['', hours(cells), ''])
  for (const row of rows) {
    const used = usedIn(row)
    const drawn = row.cells === undefined ? '' : bar(row.slots, row.cells, now, shades)
    table.push([
      row.label,
      styleText(row.counts ? 'green' : 'dim', drawn, { stream: output }),
      used === 0 ? '' : formatMinutes((used * SLOT_MS) / 60_000),
    ])
  }
  const lines = table.toString().split('\n')
  return [
    `${title}, ${cellInWords(cells)} a character`,
    ...lines.map(line => line.trimEnd()),
    `(${shades.unused} not used, ${shades.used.slice(0, -1).join(' ')} in part, ${shades.used.at(-1)} all the time)`,
  ].join('\n')
}

function time(ms: number): string {
  return new Date(ms).toISOString().slice(11, 16)
}

/** `Mon 03-01` */
function dayName(midnight: number): string {
  const date = new Date(midnight)
  return `${date.toLocaleDateString('en', { weekday: 'short', timeZone: 'UTC' })} ${date.toISOString().slice(5, 10)}`
}

const NO_LINES = Object.fromEntries(
  ['top', 'bottom', 'left', 'right']
    .flatMap(side => ['', '-mid', '-left', '-right'].map(part => side + part))
    .concat('mid', 'left-mid', 'mid-mid', 'right-mid', 'middle')
    .map(name => [name, '']),
)
