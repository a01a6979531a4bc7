import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { Command, Option } from 'commander'
import { explainPrivilegeError } from '../../access/refusal.ts'
import { type IdleWorkspace, idleWorkspaces } from '../../activity/idle.ts'
import type { Queryable } from '../../database/connection.ts'
import { type DatabaseOptions, databaseOption, withPool } from '../options/database-option.ts'
import { parseDuration } from '../options/duration.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { parseNumber } from '../options/number-option.ts'
import { formatAge, formatTime } from '../output/age.ts'

interface Options extends DatabaseOptions, JsonOptions {
  for: number
  limit?: number
  neverUsed: boolean
  csv: boolean
}

export function idleCommand(): Command {
  return new Command('idle')
    .description(
      'workspaces not used for a time, pending use counted: idle for longest first, never used last',
    )
    .addOption(databaseOption())
    .addOption(
      new Option('--for <duration>', 'not used for at least this long: 45s, 90m, 12h, 30d, 2w')
        .env('WORKSPACE_USAGE_IDLE_FOR')
        .argParser(parseDuration)
        .makeOptionMandatory(),
    )
    .addOption(
      new Option('--limit <n>', 'list this many at most')
        .env('WORKSPACE_USAGE_IDLE_LIMIT')
        .argParser(parseNumber),
    )
    .addOption(
      new Option(
        '--never-used <yes|no>',
        'whether to list those never used; when they were created is not known here',
      )
        .env('WORKSPACE_USAGE_NEVER_USED')
        .choices(['yes', 'no'])
        .default(true, 'yes')
        .argParser(text => text === 'yes'),
    )
    .addOption(jsonOption().conflicts('csv'))
    .addOption(new Option('--csv', 'print CSV').env('WORKSPACE_USAGE_CSV').default(false).preset(true))
    .action(async ({ for: idleForSeconds, limit, neverUsed, csv, json, ...database }: Options) => {
      await withPool(database, async pool => {
        // Refuses wrong options here and now, before anything is printed.
        const idle = idleWorkspaces(pool, {
          idleForSeconds,
          neverUsed,
          ...(limit !== undefined && { limit }),
        })
        const format = json ? jsonLines : csv ? csvLines : tableLines
        await print(format(explainingRefusal(idle, pool)))
      })
    })
}

async function* explainingRefusal(idle: AsyncIterable<IdleWorkspace>, pool: Queryable) {
  try {
    yield* idle
  } catch (error) {
    throw await explainPrivilegeError(pool, error, 'reader')
  }
}

/** One document, an array with a workspace a line. */
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

/** Columns of fixed width: a table that fits its content would have to hold all of it first. */
async function* tableLines(workspaces: AsyncIterable<IdleWorkspace>): AsyncGenerator<string> {
  yield `${'workspace'.padEnd(36)}  ${'last used'.padEnd(20)}  idle for\n`
  let count = 0
  for await (const { workspaceId, lastUsedAt, idleSeconds } of workspaces) {
    count += 1
    const time = lastUsedAt === null ? 'never used' : formatTime(lastUsedAt)
    const age = idleSeconds === null ? '' : formatAge(idleSeconds)
    yield `${`${workspaceId}  ${time.padEnd(20)}  ${age}`.trimEnd()}\n`
  }
  yield `${count} ${count === 1 ? 'workspace' : 'workspaces'}\n`
}

/** Prints at the pace of the reader, and ends quietly when that has seen enough (`| head`). */
async function print(lines: AsyncIterable<string>): Promise<void> {
  try {
    await pipeline(Readable.from(lines), process.stdout, { end: false })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EPIPE') throw error
  }
}
