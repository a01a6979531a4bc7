import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { Option } from 'commander'
import { explainPrivilegeError } from '../../access/refusal.ts'
import { usageCompleteSince } from '../../activity/complete-since.ts'
import { IDLE_OPTIONS, type IdleWorkspace, idleWorkspaces } from '../../activity/idle.ts'
import type { Queryable } from '../../database/connection.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { durationAllowedBy } from '../options/duration.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { numberAllowedBy, yesOrNo } from '../options/parsers.ts'
import { switchOption, VariableOption } from '../options/variable-option.ts'
import { count } from '../output/count.ts'
import { formatAge, formatTime } from '../output/time.ts'
import { isBrokenPipe, type Output, type Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions {
  for: number
  limit?: number
  neverUsed: boolean
  csv: boolean
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
    new VariableOption('--limit <n>', 'list this many at most', 'WORKSPACE_USAGE_IDLE_LIMIT').argParser(
      numberAllowedBy(IDLE_OPTIONS.limit),
    ),
    neverUsedOption(),
    jsonOption().conflicts('csv'),
    switchOption('--csv', 'print CSV', 'WORKSPACE_USAGE_CSV'),
  ],
  run: async (terminal, { for: idleForSeconds, limit, neverUsed, csv, json, ...database }) => {
    const format = json ? jsonLines : csv ? csvLines : tableLines
    const options = { idleForSeconds, neverUsed, ...(limit !== undefined && { limit }) }
    return await withPool(database, async pool => {
      const idle = explainingRefusal(idleWorkspaces(pool, options), pool)
      await print(format(idle), terminal.stdout)
      await tellLoss(terminal, pool, idleForSeconds)
      return 0
    })
  },
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
    'whether to list workspaces that were never used; some may be new',
    'WORKSPACE_USAGE_NEVER_USED',
  )
    .argParser(yesOrNo)
    .default(true, 'yes')
}

async function* explainingRefusal(idle: AsyncIterable<IdleWorkspace>, pool: Queryable) {
  try {
    yield* idle
  } catch (error) {
    throw await explainPrivilegeError(pool, error, 'reader')
  }
}

/** One JSON document: an array, with one workspace per line. */
async function* jsonLines(workspaces: AsyncIterable<IdleWorkspace>): AsyncGenerator<string> {
  let before = '[\n'
  for await (const workspace of workspaces) {
    yield before + JSON.stringify(workspace)
    before = ',\n'
  }
  yield before === ',\n' ? '\n]\n' : '[]\n'
}

async function* csvLines(workspaces: AsyncIterable<IdleWorkspace>): AsyncGenerator<string> {
  yield 'workspace_id,last_used_at,idle_seconds\n'
  for await (const { workspaceId, lastUsedAt, idleSeconds } of workspaces) {
    yield `${workspaceId},${lastUsedAt?.toISOString() ?? ''},${idleSeconds ?? ''}\n`
  }
}

/** The columns have fixed widths. To fit them to the content, all rows would have to be in memory. */
async function* tableLines(workspaces: AsyncIterable<IdleWorkspace>): AsyncGenerator<string> {
  yield `${'workspace'.padEnd(36)}  ${'last used'.padEnd(20)}  idle for\n`
  let lines = 0
  for await (const { workspaceId, lastUsedAt, idleSeconds } of workspaces) {
    lines += 1
    const time = lastUsedAt === null ? 'never used' : formatTime(lastUsedAt)
    const age = idleSeconds === null ? '' : formatAge(idleSeconds)
    yield `${`${workspaceId}  ${time.padEnd(20)}  ${age}`.trimEnd()}\n`
  }
  yield `${count(lines, 'workspace')}\n`
}

/** Prints as fast as the reader reads. Stops reading the database when the reader is gone (`| head`). */
async function print(lines: AsyncIterable<string>, output: Output): Promise<void> {
  try {
    await pipeline(Readable.from(lines), output, { end: false })
  } catch (error) {
    if (!isBrokenPipe(error)) throw error
  }
}
