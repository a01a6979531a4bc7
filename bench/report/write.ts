import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { ChartSpec } from '../measure.ts'
import { type Report, resultsPage } from './results-page.ts'

const BENCH = path.join(import.meta.dirname, '..')

/**
 * Writes `RESULTS.md` and the charts of what was measured.
 *
 * @param into The directory. Default: `bench/`.
 * @returns The files, as paths relative to the directory that the process runs in.
 */
export async function writeReport(
  report: Report,
  draw: (chart: ChartSpec) => string,
  into: string = BENCH,
): Promise<string[]> {
  const charts = report.outcomes.flatMap(({ result }) => result?.chart ?? [])
  const files = [
    { file: path.join(into, 'RESULTS.md'), text: resultsPage(report) },
    ...charts.map(chart => ({ file: path.join(into, 'charts', `${chart.file}.svg`), text: draw(chart) })),
  ]
  await mkdir(path.join(into, 'charts'), { recursive: true })
  for (const { file, text } of files) await writeFile(file, text)
  return files.map(({ file }) => path.relative('.', file))
}
