import { once } from 'node:events'
import { explainPrivilegeError } from '../../access/refusal.ts'
import type { Queryable } from '../../database/connection.ts'
import {
  DEFAULT_IMPORT_BATCH_SIZE,
  DEFAULT_IMPORT_SOURCE,
  IMPORT_OPTIONS,
  type ImportResult,
  importUsage,
} from '../../import/import-usage.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { numberAllowedBy, textAllowedBy } from '../options/parsers.ts'
import { VariableOption } from '../options/variable-option.ts'
import { count } from '../output/count.ts'
import { printable } from '../output/printable.ts'
import { NO_PROGRESS, startProgress } from '../output/progress.ts'
import { exitCodeOf, type Signal, type Terminal } from '../terminal.ts'
import { usageLines } from './usage-lines.ts'

interface Options extends DatabaseOptions, JsonOptions {
  source: string
  batchSize: number
}

export const importCommand: Command<Options> = {
  options: () => [
    ...databaseOptions(),
    new VariableOption(
      '--source <name>',
      'who used a workspace, where the line does not say',
      'WORKSPACE_USAGE_IMPORT_SOURCE',
    )
      .argParser(textAllowedBy(IMPORT_OPTIONS.source))
      .default(DEFAULT_IMPORT_SOURCE),
    new VariableOption('--batch-size <rows>', 'rows per transaction', 'WORKSPACE_USAGE_IMPORT_BATCH_SIZE')
      .argParser(numberAllowedBy(IMPORT_OPTIONS.batchSize))
      .default(DEFAULT_IMPORT_BATCH_SIZE),
    jsonOption(),
  ],
  notes: `Reads CSV from standard input: workspace,time or workspace,time,source. The first
line may hold these names. A time is ISO 8601 with a zone: 2026-03-01T12:00:00Z.
Nothing is moved back, so the same file can be imported again. A line that is
not imported is told with the reason, the others are; the exit code is 2 then.
SIGINT or SIGTERM ends it after the batch that is running.`,
  run: async (terminal, { json, source, batchSize, ...database }) =>
    await withPool(database, async pool => {
      const ending = new AbortController()
      let endedBy: Signal | undefined
      void terminal.signal().then(signal => {
        endedBy = signal
        ending.abort()
      })
      const { result, invalid } = await importLines(terminal, pool, {
        source,
        batchSize,
        signal: ending.signal,
      })
      if (endedBy) terminal.tell(`ended by ${endedBy}: only these are stored`)
      const total = withInvalid(result, invalid)
      if (json) terminal.printJson(total)
      else terminal.print(describe(total))
      if (endedBy) return exitCodeOf(endedBy)
      return total.refused > 0 ? 2 : 0
    }),
}

interface LinesOptions {
  source: string
  batchSize: number
  signal: AbortSignal
}

/** Imports the lines of standard input. Tells how many were no CSV. */
async function importLines(
  terminal: Terminal,
  pool: Queryable,
  { signal, ...options }: LinesOptions,
): Promise<{ result: ImportResult; invalid: number }> {
  const { stdin } = terminal
  if (stdin.isTTY) terminal.tell('reading workspace,time from the terminal, a line each; end with Ctrl-D')
  // A progress bar would mix with the lines that somebody types.
  const bar = stdin.isTTY
    ? NO_PROGRESS
    : await startProgress(terminal, 'importing, row {value}, {duration_formatted}')
  let invalid = 0
  let stored: ImportResult | undefined
  const tell = (line: number, message: string) => terminal.tell(`line ${line}: ${printable(message)}`)
  const lines = usageLines(stdin, {
    signal,
    onInvalid: (line, message) => {
      invalid++
      tell(line, message)
    },
  })
  try {
    const result = await importUsage(pool, lines, {
      ...options,
      signal,
      onRefused: ({ line, message }) => tell(line, message),
      onBatch: async progress => {
        stored = progress
        bar.update(progress.rows + invalid)
        // Whoever reads the refusals may be slower than the import.
        if (terminal.stderr.writableNeedDrain) await once(terminal.stderr, 'drain')
      },
    })
    return { result, invalid }
  } catch (error) {
    if (stored) terminal.tell(`${describe(withInvalid(stored, invalid))}, before it failed`)
    throw await explainPrivilegeError(pool, error, 'worker')
  } finally {
    bar.stop()
  }
}

function withInvalid({ refusedBy, ...result }: ImportResult, invalid: number): ImportResult {
  return {
    ...result,
    rows: result.rows + invalid,
    refused: result.refused + invalid,
    refusedBy: { ...refusedBy, invalid: refusedBy.invalid + invalid },
  }
}

function describe({ imported, updated, refused, refusedBy }: ImportResult): string {
  const reasons = Object.entries(refusedBy).filter(([, rows]) => rows > 0)
  const why = reasons.length === 0 ? '' : ` (${reasons.map(([code, rows]) => `${rows} ${code}`).join(', ')})`
  return `imported ${count(imported, 'row')}, ${count(updated, 'workspace')} moved forward, ${refused} refused${why}`
}
