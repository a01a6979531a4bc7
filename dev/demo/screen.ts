import { styleText } from 'node:util'
import { formatTime } from '../../src/cli/output/time.ts'

// A terminal has 80 columns unless it was made wider. Only URLs may be longer.
const INDENT = ' '.repeat(11)
const WRAPPED = /(.{1,69}|\S+)(\s+|$)/g

/** Prints a text with the time, wrapped. */
export function say(text: string): void {
  const lines = text.match(WRAPPED) ?? []
  console.log(`${now()}  ${lines.map(line => line.trimEnd()).join(`\n${INDENT}`)}`)
}

/** Prints a line as it is, to copy or to look at. */
export function show(line: string): void {
  console.log(`  ${line}`)
}

/** Prints a row of the table of flushes, with one cell per width. */
export function showRow(cells: readonly unknown[], widths: readonly number[]): void {
  console.log(now() + widths.map((width, i) => String(cells[i] ?? '').padStart(width)).join(''))
}

function now(): string {
  return styleText('dim', formatTime(new Date()).slice(11))
}
