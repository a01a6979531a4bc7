import Table from 'cli-table3'
import { explainPrivilegeError } from '../../access/refusal.ts'
import { explanationOf, type SourceUsage, type UsageExplanation } from '../../activity/explain.ts'
import { HISTORY_OPTIONS, type HistoryOptions, historyOf } from '../../activity/history.ts'
import { readUsage, type UsageRows } from '../../activity/usage-rows.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { durationAllowedBy } from '../options/duration.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { numberAllowedBy } from '../options/parsers.ts'
import { switchOption, VariableOption } from '../options/variable-option.ts'
import { type MapSettings, mapOfDays, mapOfLastDay } from '../output/heat-map.ts'
import { printable } from '../output/printable.ts'
import { formatAge, formatTime } from '../output/time.ts'
import type { Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions {
  days?: number
  break?: number
  ascii: boolean
}

export const explainCommand: Command<Options> = {
  options: () => [
    ...databaseOptions(),
    new VariableOption(
      '--days <n>',
      'draw that many days, a row a source and day; default: the last 24 hours',
      'WORKSPACE_USAGE_EXPLAIN_DAYS',
    ).argParser(numberAllowedBy(HISTORY_OPTIONS.days)),
    new VariableOption(
      '--break <duration>',
      'the longest break in a use that is told as one: 15m (default: 5m)',
      'WORKSPACE_USAGE_BREAK',
    ).argParser(durationAllowedBy(HISTORY_OPTIONS.breakSeconds)),
    switchOption('--ascii', 'draw with ASCII, as without a locale of UTF-8', 'WORKSPACE_USAGE_ASCII'),
    jsonOption(),
  ],
  notes: 'Exits with 1 if there is no such workspace.',
  run: async (terminal, { json, days, break: breakSeconds, ascii, ...database }, id: string) => {
    const rows = await withPool(database, async pool => {
      try {
        return await readUsage(pool, id)
      } catch (error) {
        throw await explainPrivilegeError(pool, error, 'reader')
      }
    })
    const options: HistoryOptions = {
      ...(days !== undefined && { days }),
      ...(breakSeconds !== undefined && { breakSeconds }),
    }
    if (json) terminal.printJson(asJson(rows, options))
    else print(terminal, rows, options, { output: terminal.stdout, ascii: ascii || !terminal.utf8 })
    return rows.exists ? 0 : 1
  },
}

/** The explanation. Each source has its history as well. */
function asJson(rows: UsageRows, { days, ...options }: HistoryOptions): unknown {
  const { sources, ...explanation } = explanationOf(rows, options)
  const {
    from,
    breakSeconds,
    sources: histories,
  } = historyOf(rows, days === undefined ? options : { days, ...options })
  return {
    ...explanation,
    from,
    breakSeconds,
    sources: sources.map(source => {
      const { minutesUsed, intervals } =
        histories.find(history => history.source === source.source) ?? NO_HISTORY
      return { ...source, minutesUsed, intervals }
    }),
  }
}

const NO_HISTORY = { minutesUsed: 0, intervals: [] }

function print(terminal: Terminal, rows: UsageRows, options: HistoryOptions, settings: MapSettings): void {
  const { days, ...withoutDays } = options
  const explanation = explanationOf(rows, withoutDays)
  printLastUse(terminal, explanation)
  if (explanation.sources.length === 0) return
  terminal.print(sourceTable(explanation, settings.ascii))
  if (!rows.sources.some(source => source.days.length > 0)) return
  const map =
    days === undefined
      ? mapOfLastDay(rows, settings)
      : mapOfDays(rows, historyOf(rows, options).from, settings)
  terminal.print(`\n${map}`)
}

function printLastUse(
  terminal: Terminal,
  { workspaceId, exists, lastUsedAt, usedUntil, sources, asOf }: UsageExplanation,
): void {
  if (!exists) {
    terminal.tell(`error: no such workspace: ${workspaceId}`)
    if (sources.length > 0) terminal.tell('Somebody marks it anyway. The next flush drops these marks:')
  } else if (lastUsedAt === null) {
    terminal.print(`workspace ${workspaceId}: never used`)
  } else {
    const when = lastUsedAt > asOf ? 'in the future' : ago(lastUsedAt, asOf)
    const until = usedUntil === null ? '' : `; in use until ${formatTime(usedUntil)}`
    terminal.print(`workspace ${workspaceId}: last used ${when}, ${formatTime(lastUsedAt)}${until}`)
    if (lastUsedAt > asOf)
      terminal.print(
        'A flush does not write such a time. Something else did, perhaps by a clock that is ahead.',
      )
    if (!sources.some(source => source.lastUsedAt >= lastUsedAt))
      terminal.print('The source is not on record.')
  }
}

function sourceTable({ sources, asOf }: UsageExplanation, ascii: boolean): string {
  const table = new Table({
    head: ['source', 'last used', 'ago', 'in use since', 'state'],
    style: { head: [], border: [] },
    ...(ascii && { chars: ASCII_LINES }),
  })
  for (const source of sources) {
    const { lastUsedAt } = source
    table.push([
      printable(source.source),
      formatTime(lastUsedAt),
      ago(lastUsedAt, asOf),
      sinceText(source),
      stateText(source),
    ])
  }
  return table.toString()
}

function sinceText({ since, sinceAtLeast }: SourceUsage): string {
  if (since === null) return ''
  return sinceAtLeast ? `${toTheMinute(since)}\nor longer` : toTheMinute(since)
}

/** A line each, because the table shall fit a narrow terminal. */
function stateText({ pending, counts, usedUntil }: SourceUsage): string {
  return [
    pending ? 'pending' : 'flushed',
    !counts && 'does not count',
    usedUntil !== null && `until\n${toTheMinute(usedUntil)}`,
  ]
    .filter(line => line !== false)
    .join('\n')
}

/** The slots of the history are longer than a minute. */
function toTheMinute(time: Date): string {
  return formatTime(time).replace(/:\d\dZ$/, 'Z')
}

function ago(time: Date, asOf: Date): string {
  return `${formatAge((asOf.getTime() - time.getTime()) / 1_000)} ago`
}

const ASCII_LINES = {
  ...{ top: '-', 'top-mid': '+', 'top-left': '+', 'top-right': '+' },
  ...{ bottom: '-', 'bottom-mid': '+', 'bottom-left': '+', 'bottom-right': '+' },
  ...{ left: '|', 'left-mid': '+', mid: '-', 'mid-mid': '+', right: '|', 'right-mid': '+', middle: '|' },
}
