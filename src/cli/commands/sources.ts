import Table from 'cli-table3'
import { explainPrivilegeError } from '../../access/refusal.ts'
import { countSource, ignoreSource, nearestSources, retireSource } from '../../activity/counting.ts'
import { type UsageSource, usageSources } from '../../activity/sources.ts'
import type { OwnedPool } from '../../database/pool.ts'
import { SourceIgnoredError, UnknownSourceError } from '../../errors.ts'
import { oneOf } from '../../options.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { textAllowedBy } from '../options/parsers.ts'
import { VariableOption } from '../options/variable-option.ts'
import { count } from '../output/count.ts'
import { UsageError } from '../output/failure.ts'
import { printable } from '../output/printable.ts'
import { formatAge, formatTime } from '../output/time.ts'
import type { Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions {
  retire?: string
}

const ACTIONS = { ignore, count: letCount }

type Action = keyof typeof ACTIONS

export const sourcesCommand: Command<Options> = {
  options: () => [
    ...databaseOptions(),
    new VariableOption(
      '--retire <source>',
      'forget a source that is gone for good, so that nobody is warned of it',
      'WORKSPACE_USAGE_RETIRE',
    ),
    jsonOption(),
  ],
  parseArgument: textAllowedBy(oneOf(...Object.keys(ACTIONS))),
  notes: `A source is regular once it was seen for a day without a gap of more than an
hour. "status --check" and "doctor" warn of a regular source that goes silent.
A retired source that marks again is a new one.

"ignore" lets a source no longer keep workspaces alive, as for a dashboard that
marks by accident. It is still recorded and shown. "count" undoes that, also for
what it used meanwhile. "--" before a name lets it begin with "-".`,
  run: async (terminal, { retire, json, ...database }, action?: Action, source?: string) => {
    if (action !== undefined && source === undefined)
      throw new UsageError(`name the source: sources ${action} <source>`)
    if (action !== undefined && retire !== undefined) throw new UsageError(`--retire can't follow ${action}`)
    return await withPool(database, async pool => {
      try {
        if (action !== undefined) return await ACTIONS[action](terminal, pool, source!, json)
        return retire === undefined
          ? await list(terminal, pool, json)
          : await forget(terminal, pool, retire, json)
      } catch (error) {
        if (error instanceof UnknownSourceError || error instanceof SourceIgnoredError) {
          terminal.tell(`error: ${printable(error.message)}`)
          return 1
        }
        throw await explainPrivilegeError(pool, error, 'worker')
      }
    })
  },
}

async function ignore(terminal: Terminal, pool: OwnedPool, source: string, json: boolean): Promise<0> {
  const { already } = await ignoreSource(pool, source)
  if (json) terminal.printJson({ ignored: source, already })
  else if (already) terminal.print(`${printable(source)} does not count already`)
  else terminal.print(`${printable(source)} does not count any more`)
  return 0
}

async function letCount(terminal: Terminal, pool: OwnedPool, source: string, json: boolean): Promise<0> {
  const { already, restored } = await countSource(pool, source)
  if (json) terminal.printJson({ counted: source, already, restored })
  else {
    terminal.print(`${printable(source)} counts ${already ? 'already' : 'again'}`)
    if (restored > 0)
      terminal.print(`the next flush moves forward ${count(restored, 'workspace')} that it used meanwhile`)
  }
  return 0
}

async function list(terminal: Terminal, pool: OwnedPool, json: boolean): Promise<0> {
  const sources = await usageSources(pool)
  if (json) terminal.printJson(sources)
  else terminal.print(sources.length === 0 ? 'no sources yet' : asTable(sources))
  return 0
}

function asTable(sources: readonly UsageSource[]): string {
  const table = new Table({
    head: ['source', 'counts', 'workspaces in a day', 'last used', 'silent for', 'regular since'],
    style: { head: [], border: [] },
  })
  for (const each of sources) {
    const { source, counts, workspacesLastDay, lastUsedAt, silentSeconds, regular, regularSince } = each
    table.push([
      printable(source),
      counts ? 'yes' : 'no',
      workspacesLastDay,
      formatTime(lastUsedAt),
      formatAge(silentSeconds),
      regular && regularSince ? formatTime(regularSince) : 'not regular',
    ])
  }
  return table.toString()
}

async function forget(terminal: Terminal, pool: OwnedPool, source: string, json: boolean): Promise<0> {
  if (!(await retireSource(pool, source)))
    throw new UnknownSourceError(source, await nearestSources(pool, source))
  if (json) terminal.printJson({ retired: source })
  else terminal.print(`retired ${printable(source)}`)
  return 0
}
