import { explainPrivilegeError } from '../../access/refusal.ts'
import type { OwnedPool } from '../../database/pool.ts'
import { workspaceIdType } from '../../database/workspace-id-type.ts'
import { markUsage } from '../../mark/mark.ts'
import { A_SOURCE } from '../../mark/source.ts'
import { type EndOptions, endUsage } from '../../mark/until.ts'
import type { WorkspaceIdType } from '../../workspace-id.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { type HoldingOptions, holdingOptions, timeAhead } from '../options/holding-options.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { textAllowedBy } from '../options/parsers.ts'
import { VariableOption } from '../options/variable-option.ts'
import { count } from '../output/count.ts'
import { NO_PROGRESS, startProgress } from '../output/progress.ts'
import { formatTime } from '../output/time.ts'
import { type ExitCode, exitCodeOf, type Signal, type Terminal } from '../terminal.ts'
import { workspaceIdLines } from './workspace-id-lines.ts'

/** Ids per INSERT. With so many the round trip hardly counts, and yet no INSERT takes long. */
const BATCH_SIZE = 10_000

interface Options extends DatabaseOptions, JsonOptions, HoldingOptions {
  source?: string
}

/** What was done so far. */
interface Total {
  /** Workspaces marked. A workspace that is in two batches counts twice. */
  marked: number
  /** Of them, those that this source had not yet marked in the open period. */
  stored: number
  /** Until when they are in use, if that was asked for. */
  until?: Date
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
    ...holdingOptions(),
    jsonOption(),
  ],
  notes: `SIGINT or SIGTERM ends it after the batch that is running. Then it tells
how many workspaces it has marked.

--for and --until keep a workspace in use without further marks. The role needs
the duty of a holder. It is a pending mark: a crash of the server ends it, unless
the tables of marks are LOGGED.`,
  run: async (terminal, { source, json, ...options }, ids: string[]) =>
    await withPool(options, async pool => {
      const idType = await workspaceIdType(pool)
      const named = { idType, ...(source !== undefined && { source }) }
      if (options.end) return await endAll(terminal, pool, ids, { ...named, ...options, json })
      const until = await timeAhead(pool, options)
      const total: Total = { marked: 0, stored: 0, invalid: 0 }
      const store = async (batch: readonly string[]) => {
        const done = await markUsage(pool, batch, { ...named, ...(until && { until }) })
        total.marked += done.marked
        total.stored += done.stored
        // The earliest of all batches.
        if (done.until && !(total.until && total.until < done.until)) total.until = done.until
      }
      let signal: Signal | undefined
      try {
        if (ids.length > 0) await store(ids)
        else signal = await eachBatch(terminal, idType, store, () => total.invalid++)
      } catch (error) {
        if (total.marked > 0) terminal.tell(`${describe(total)}, before it failed`)
        throw until ? await explainPrivilegeError(pool, error, 'holder') : error
      }
      if (signal) terminal.tell(`ended by ${signal}: only these are stored`)
      if (json) terminal.printJson(total)
      else terminal.print(describe(total))
      return exitCode(total, signal)
    }),
}

function describe({ marked, stored, until }: Total): string {
  const workspaces = `marked ${count(marked, 'workspace')}`
  if (!until) return `${workspaces}, ${stored} for the first time in this period`
  return `${workspaces}, in use until ${formatTime(until)}: a pending mark, so a crash of the server ends it unless the tables of marks are LOGGED`
}

/** Ends the uses until a time ahead. */
async function endAll(
  terminal: Terminal,
  pool: OwnedPool,
  ids: string[],
  { json, source, everySource, idType }: EndOptions & JsonOptions & { idType: WorkspaceIdType },
): Promise<ExitCode> {
  const total = { ended: 0, invalid: 0 }
  const options = { idType, ...(source !== undefined && { source }), ...(everySource && { everySource }) }
  const end = async (batch: readonly string[]) => {
    total.ended += (await endUsage(pool, batch, options)).ended
  }
  let signal: Signal | undefined
  try {
    if (ids.length > 0) await end(ids)
    else signal = await eachBatch(terminal, idType, end, () => total.invalid++)
  } catch (error) {
    throw await explainPrivilegeError(pool, error, 'holder')
  }
  if (json) terminal.printJson(total)
  else terminal.print(`ended ${count(total.ended, 'use')} until a time ahead`)
  return exitCode(total, signal)
}

function exitCode({ invalid }: { invalid: number }, signal: Signal | undefined): ExitCode {
  if (signal) return exitCodeOf(signal)
  return invalid > 0 ? 2 : 0
}

/** Takes the ids on standard input in batches. Returns the signal that ended it, if one did. */
async function eachBatch(
  terminal: Terminal,
  idType: WorkspaceIdType,
  take: (ids: string[]) => Promise<void>,
  tellInvalid: () => void,
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
    tellInvalid()
    terminal.tell(`line ${line}: ${error.message}`)
  }
  const batches = workspaceIdLines(stdin, { idType, batchSize: BATCH_SIZE, onInvalid, signal: ending.signal })
  try {
    for await (const { ids, lines } of batches) {
      await take(ids)
      bar.update(lines)
    }
  } finally {
    bar.stop()
  }
  return endedBy
}
