import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Option } from 'commander'
import { explainPrivilegeError } from '../../access/refusal.ts'
import { usageCompleteSince } from '../../activity/complete-since.ts'
import { idlePages } from '../../activity/idle.ts'
import { idleForecast } from '../../activity/idle-forecast.ts'
import { IDLE_OPTIONS } from '../../activity/idle-options.ts'
import type { Queryable } from '../../database/connection.ts'
import { formatDuration } from '../../duration.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { durationAllowedBy } from '../options/duration.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { numberAllowedBy, yesOrNo } from '../options/parsers.ts'
import { switchOption, VariableOption } from '../options/variable-option.ts'
import { forecastLines } from '../output/idle-forecast-lines.ts'
import { csvLines, jsonLines, tableLines } from '../output/idle-lines.ts'
import { formatTime } from '../output/time.ts'
import { isBrokenPipe, type Output, type Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions {
  for: number
  within?: number
  limit?: number
  neverUsed: boolean
  csv: boolean
  count: boolean
}

export const idleCommand: Command<Options> = {
  options: () => [
    ...databaseOptions(),
    new VariableOption(
      '--for <duration>',
      'not used for at least this long: 45s, 90m, 12h, 30d, 2w',
      'WORKSPACE_USAGE_IDLE_FOR',
      { needed: true },
    ).argParser(durationAllowedBy(IDLE_OPTIONS.idleForSeconds)),
    new VariableOption(
      '--within <duration>',
      'also what will be idle for that long within this time, with the time left',
      'WORKSPACE_USAGE_IDLE_WITHIN',
    ).argParser(durationAllowedBy(IDLE_OPTIONS.withinSeconds)),
    new VariableOption('--limit <n>', 'list this many at most', 'WORKSPACE_USAGE_IDLE_LIMIT').argParser(
      numberAllowedBy(IDLE_OPTIONS.limit),
    ),
    neverUsedOption(),
    jsonOption().conflicts('csv'),
    switchOption('--csv', 'print CSV', 'WORKSPACE_USAGE_CSV'),
    switchOption(
      '--count',
      'list none: count how many are due now, in a day and in a week',
      'WORKSPACE_USAGE_IDLE_COUNT',
    ).conflicts(['within', 'limit', 'neverUsed', 'csv']),
  ],
  run: async (terminal, options) =>
    await withPool(options, async pool => {
      await (options.count ? printForecast : printList)(terminal, pool, options)
      await tellLoss(terminal, pool, options.for)
      return 0
    }),
}

async function printList(terminal: Terminal, pool: Queryable, options: Options): Promise<void> {
  const { for: idleForSeconds, within: withinSeconds, limit, neverUsed, csv, json } = options
  const format = json ? jsonLines : csv ? csvLines : tableLines(withinSeconds !== undefined)
  const pages = idlePages(pool, {
    idleForSeconds,
    neverUsed,
    ...(withinSeconds !== undefined && { withinSeconds }),
    ...(limit !== undefined && { limit }),
  })
  await print(format(explainingRefusal(pages, pool)), terminal.stdout)
}

async function printForecast(terminal: Terminal, pool: Queryable, { for: idleForSeconds, json }: Options) {
  const forecast = await idleForecast(pool, { idleForSeconds }).catch(async error => {
    throw await explainPrivilegeError(pool, error, 'reader')
  })
  if (json) terminal.printJson(forecast)
  else terminal.print(forecastLines(forecast, formatDuration(idleForSeconds)))
}

/** A workspace whose last marks were lost looks idle. The list itself has one format, so this is told beside it. */
async function tellLoss(terminal: Terminal, pool: Queryable, idleForSeconds: number): Promise<void> {
  const completeSince = await usageCompleteSince(pool)
  if (completeSince === null || completeSince.getTime() <= Date.now() - idleForSeconds * 1_000) return
  terminal.tell(
    `warning: marks were lost; use is complete since ${formatTime(completeSince)}. ` +
      'What was used before may be in this list. Stop nothing for it.',
  )
}

function neverUsedOption(): Option {
  return new VariableOption(
    '--never-used <yes|no>',
    'whether to list workspaces that were never used; if their creation is not known, some may be new',
    'WORKSPACE_USAGE_NEVER_USED',
  )
    .argParser(yesOrNo)
    .default(true, 'yes')
}

async function* explainingRefusal<Page>(idle: AsyncIterable<Page>, pool: Queryable) {
  try {
    yield* idle
  } catch (error) {
    throw await explainPrivilegeError(pool, error, 'reader')
  }
}

/** Prints as fast as the reader reads. Stops reading the database when the reader is gone (`| head`). */
async function print(lines: AsyncIterable<string>, output: Output): Promise<void> {
  try {
    await pipeline(Readable.from(lines), output, { end: false })
  } catch (error) {
    if (!isBrokenPipe(error)) throw error
  }
}
