import { workspaceIdType } from '../../database/workspace-id-type.ts'
import { type MarkOptions, markUsage } from '../../mark/mark.ts'
import { A_SOURCE } from '../../mark/source.ts'
import type { WorkspaceIdType } from '../../workspace-id.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { textAllowedBy } from '../options/parsers.ts'
import { VariableOption } from '../options/variable-option.ts'
import { count } from '../output/count.ts'
import { NO_PROGRESS, startProgress } from '../output/progress.ts'
import { type ExitCode, exitCodeOf, type Signal, type Terminal } from '../terminal.ts'
import { workspaceIdLines } from './workspace-id-lines.ts'

/** Ids per INSERT. With so many the round trip hardly counts, and yet no INSERT takes long. */
const BATCH_SIZE = 10_000

interface Options extends DatabaseOptions, JsonOptions {
  source?: string
}

/** What was done so far. */
interface Total {
  /** Workspaces marked. A workspace that is in two batches counts twice. */
  marked: number
  /** Of them, those that this source had not yet marked in the open period. */
  stored: number
  /** Lines that are not an id. */
  invalid: number
}

export const markCommand: Command<Options> = {
  options: () => [
    ...databaseOptions(),
    new VariableOption(
      '--source <name>',
      'who says so (default: the application_name)',
      'WORKSPACE_USAGE_SOURCE',
    ).argParser(textAllowedBy(A_SOURCE)),
    jsonOption(),
  ],
  notes: `SIGINT or SIGTERM ends it after the batch that is running. Then it tells
how many workspaces it has marked.`,
  run: async (terminal, { source, json, ...database }, ids: string[]) =>
    await withPool(database, async pool => {
      const total: Total = { marked: 0, stored: 0, invalid: 0 }
      const idType = await workspaceIdType(pool)
      const options: MarkOptions = { idType, ...(source !== undefined && { source }) }
      const store = async (batch: readonly string[]) => {
        const { marked, stored } = await markUsage(pool, batch, options)
        total.marked += marked
        total.stored += stored
      }
      let signal: Signal | undefined
      try {
        if (ids.length > 0) await store(ids)
        else signal = await markLines(terminal, idType, store, total)
      } catch (error) {
        if (total.marked > 0) terminal.tell(`${describe(total)}, before it failed`)
        throw error
      }
      if (signal) terminal.tell(`ended by ${signal}: only these are stored`)
      if (json) terminal.printJson(total)
      else terminal.print(describe(total))
      return exitCode(total, signal)
    }),
}

function describe({ marked, stored }: Total): string {
  return `marked ${count(marked, 'workspace')}, ${stored} for the first time in this period`
}

function exitCode({ invalid }: Total, signal: Signal | undefined): ExitCode {
  if (signal) return exitCodeOf(signal)
  return invalid > 0 ? 2 : 0
}

/** Marks the ids on standard input. Returns the signal that ended it, if one did. */
async function markLines(
  terminal: Terminal,
  idType: WorkspaceIdType,
  store: (ids: string[]) => Promise<void>,
  total: Total,
): Promise<Signal | undefined> {
  const { stdin } = terminal
  const ending = new AbortController()
  let endedBy: Signal | undefined
  void terminal.signal().then(signal => {
    endedBy = signal
    ending.abort()
  })
  if (stdin.isTTY) terminal.tell('reading workspace ids from the terminal, one per line; end with Ctrl-D')
  // A progress bar would mix with the lines that somebody types.
  const bar = stdin.isTTY
    ? NO_PROGRESS
    : await startProgress(terminal, 'marking, line {value}, {duration_formatted}')
  const onInvalid = (line: number, error: Error) => {
    total.invalid += 1
    terminal.tell(`line ${line}: ${error.message}`)
  }
  const batches = workspaceIdLines(stdin, { idType, batchSize: BATCH_SIZE, onInvalid, signal: ending.signal })
  try {
    for await (const { ids, lines } of batches) {
      await store(ids)
      bar.update(lines)
    }
  } finally {
    bar.stop()
  }
  return endedBy
}
