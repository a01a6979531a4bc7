import Table from 'cli-table3'
import type { Outcome } from '../suite.ts'
import { number, promise, ratio, verdict } from './format.ts'

/** One outcome as text for a terminal. */
export function screen({ name, title, seconds, result, skipped, failed }: Outcome, judged: boolean): string {
  const heading = `${name}: ${title} (${seconds.toFixed(1)} s)`
  if (failed !== undefined) return `${heading}\n  ✘ failed: ${failed}\n`
  if (result === undefined) return `${heading}\n  skipped: ${skipped}\n`
  const table = new Table({
    head: ['', 'unit', 'median', 'min', 'max', 'runs', 'ratio'],
    colAligns: ['left', 'left', 'right', 'right', 'right', 'right', 'right'],
    colWidths: [60],
    wordWrap: true,
    style: { head: [], border: [], compact: true },
  })
  for (const row of result.rows) {
    const label = row.note === undefined ? row.label : `${row.label} (${row.note})`
    const values = [row.median, row.min, row.max].map(number)
    table.push([label, row.unit, ...values, String(row.runs), ratio(row, result.rows)])
  }
  const sign = { met: '✔', missed: '✘', 'not judged': '·' }
  const promises = result.targets.map(target => {
    const found = verdict(target, judged)
    return `  ${sign[found]} ${promise(target)} (${found})`
  })
  const left = result.skipped === undefined ? [] : [`  left out: ${result.skipped}`]
  return [heading, table.toString(), ...promises, ...left, ''].join('\n')
}
