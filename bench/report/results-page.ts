import type { Measure } from '../measure.ts'
import type { Outcome } from '../suite.ts'
import { number, promise, ratio, verdict } from './format.ts'
import type { Machine } from './machine.ts'

/** All that `bench/RESULTS.md` tells. */
export interface Report {
  /** The day of the run, such as `2026-11-26`. */
  date: string
  machine: Machine
  /** The number of workspaces, and whether the targets are meant for so many. */
  workspaces: number
  judged: boolean
  outcomes: readonly Outcome[]
  /** Measures that this run left out. */
  notRun: readonly Pick<Measure, 'name' | 'title' | 'long'>[]
}

/** The text of `bench/RESULTS.md`. */
export function resultsPage(report: Report): string {
  const { date, machine, workspaces, outcomes, notRun } = report
  const parts = [
    '# Results',
    `\`npm run bench\` wrote this page on ${date}, with ${workspaces.toLocaleString('en')} workspaces. Each measure runs ` +
      'its subjects in alternating order, and shows the median, the least and the greatest of the runs. A ratio is to ' +
      'the row above it, or to the first one of the same unit. Trust ratios, and not times: another machine has other times.',
    table(['machine', ''], Object.entries(machine)),
    '## Targets',
    targets(report),
    ...outcomes.map(outcome => section(outcome)),
  ]
  if (notRun.length > 0) {
    parts.push(
      '## Not run',
      notRun
        .map(({ name, title, long }) => `- ${title}: \`npm run bench -- ${long ? '--long ' : ''}${name}\``)
        .join('\n'),
    )
  }
  return `${parts.join('\n\n')}\n`
}

function targets({ outcomes, judged }: Report): string {
  const rows = outcomes.flatMap(({ name, result, skipped, failed }) => {
    if (failed !== undefined) return [[name, 'failed', '**failed**']]
    if (result === undefined) return [[name, `skipped: ${skipped}`, 'skipped']]
    return result.targets.map(target => {
      const found = verdict(target, judged)
      return [name, promise(target), found === 'missed' ? '**missed**' : found]
    })
  })
  return table(['measure', 'target', ''], rows)
}

function section({ name, title, result, skipped, failed }: Outcome): string {
  const heading = `## ${title}`
  const command = `\`npm run bench -- ${name}\``
  if (failed !== undefined) return `${heading}\n\n${command}\n\n**Failed:** ${failed}`
  if (result === undefined) return `${heading}\n\n${command}\n\nSkipped: ${skipped}`
  const { rows, limits, chart } = result
  const head = ['', 'unit', 'median', 'min', 'max', 'runs', 'ratio', 'note']
  const lines = rows.map(row => [
    row.label,
    row.unit,
    ...[row.median, row.min, row.max].map(number),
    String(row.runs),
    ratio(row, rows),
    row.note ?? '',
  ])
  return [
    heading,
    command,
    table(head, lines),
    ...(chart ? [`![${chart.title}](charts/${chart.file}.svg)`] : []),
    ...(limits ? [`**What limits it.** ${limits}`] : []),
    ...(result.skipped ? [`Left out: ${result.skipped}`] : []),
  ].join('\n\n')
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) =>
    `| ${cells.map(cell => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`
  return [line(head), `|${head.map(() => '---|').join('')}`, ...rows.map(line)].join('\n')
}
