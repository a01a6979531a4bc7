import Table from 'cli-table3'
import { HEALTH_OPTIONS } from '../../activity/health.ts'
import { DIAGNOSE_OPTIONS, diagnose } from '../../doctor/diagnose.ts'
import type { Diagnosis } from '../../doctor/finding.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { healthOptions, type VerdictOptions, verdictOptions } from '../options/health-options.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { numberAllowedBy, textAllowedBy } from '../options/parsers.ts'
import { VariableOption } from '../options/variable-option.ts'
import { count } from '../output/count.ts'
import { coloured, type FindingLine, findingLines } from '../output/finding-lines.ts'
import type { Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions, VerdictOptions {
  as?: string
}

export const doctorCommand: Command<Options> = {
  options: () => [
    ...databaseOptions(),
    new VariableOption(
      '--as <role>',
      'look at the rights and settings of this role; default: the role of the connection',
      'WORKSPACE_USAGE_AS',
    ).argParser(textAllowedBy(DIAGNOSE_OPTIONS.as)),
    new VariableOption(
      '--max-lag <seconds>',
      'the lag above which something is wrong',
      'WORKSPACE_USAGE_MAX_LAG',
    ).argParser(numberAllowedBy(HEALTH_OPTIONS.maxLagSeconds)),
    ...verdictOptions(),
    jsonOption(),
  ],
  notes: `It changes nothing. Connect as a superuser or as the owner of the tables: what a
role may not look at is "unknown". Exits with 1 if anything is critical or a
warning. Notes do not count.`,
  run: async (terminal, { as, json, ...options }) => {
    const diagnosis = await withPool(options, pool =>
      diagnose(pool, { ...(as !== undefined && { as }), ...healthOptions(options) }),
    )
    if (json) terminal.printJson(diagnosis)
    else print(terminal, diagnosis)
    return diagnosis.ok ? 0 : 1
  },
}

function print(terminal: Terminal, { checks, findings }: Diagnosis): void {
  const lines = findingLines(checks)
  terminal.print(terminal.stdout.isTTY ? asTable(lines, terminal) : asPlainLines(lines, terminal))
  const numberOf = (severity: string) => findings.filter(finding => finding.severity === severity).length
  terminal.print(
    `${numberOf('critical')} critical, ${count(numberOf('warning'), 'warning')}, ${count(numberOf('note'), 'note')}`,
  )
}

/** For grep: one line each. */
function asPlainLines(lines: readonly FindingLine[], { stdout }: Terminal): string {
  return lines
    .map(({ level, area, name, text, remedy }) => {
      const what = [name, text].filter(part => part !== '').join(': ')
      const line = `${coloured(level, level.padEnd(8), stdout)}  ${area.padEnd(10)}  ${what}`
      return remedy === '' ? line : `${line} Remedy: ${remedy}`
    })
    .join('\n')
}

const [LEVEL_WIDTH, AREA_WIDTH, LEAST_WIDTH] = [10, 12, 24]

function asTable(lines: readonly FindingLine[], { stdout }: Terminal): string {
  const borders = 4
  const left = (stdout.columns ?? 80) - LEVEL_WIDTH - AREA_WIDTH - borders
  const table = new Table({
    head: ['', 'area', 'what'],
    colWidths: [LEVEL_WIDTH, AREA_WIDTH, Math.max(LEAST_WIDTH, left)],
    wordWrap: true,
    // No rules between the rows.
    chars: { mid: '', 'left-mid': '', 'mid-mid': '', 'right-mid': '' },
    style: { head: [], border: [] },
  })
  let before = ''
  for (const { level, area, name, text, remedy } of lines) {
    const what = text === '' ? name : `${name}: ${text}`
    table.push([
      coloured(level, level, stdout),
      area === before ? '' : area,
      remedy === '' ? what : `${what}\n→ ${remedy}`,
    ])
    before = area
  }
  return table.toString()
}
