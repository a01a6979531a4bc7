import Table from 'cli-table3'
import { closestMatch } from 'leven'
import { explainPrivilegeError } from '../../access/refusal.ts'
import { retireSource, type UsageSource, usageSources } from '../../activity/sources.ts'
import type { OwnedPool } from '../../database/pool.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { VariableOption } from '../options/variable-option.ts'
import { printable } from '../output/printable.ts'
import { formatAge, formatTime } from '../output/time.ts'
import type { Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions {
  retire?: string
}

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
  notes: `A source is regular once it was seen for a day without a gap of more than an
hour. "status --check" and "doctor" warn of a regular source that goes silent.
A retired source that marks again is a new one.`,
  run: async (terminal, { retire, json, ...database }) =>
    await withPool(database, async pool => {
      try {
        return retire === undefined
          ? await list(terminal, pool, json)
          : await forget(terminal, pool, retire, json)
      } catch (error) {
        throw await explainPrivilegeError(pool, error, 'worker')
      }
    }),
}

async function list(terminal: Terminal, pool: OwnedPool, json: boolean): Promise<0> {
  const sources = await usageSources(pool)
  if (json) terminal.printJson(sources)
  else terminal.print(sources.length === 0 ? 'no sources yet' : asTable(sources))
  return 0
}

function asTable(sources: readonly UsageSource[]): string {
  const table = new Table({
    head: ['source', 'last used', 'silent for', 'regular since'],
    style: { head: [], border: [] },
  })
  for (const { source, lastUsedAt, silentSeconds, regular, regularSince } of sources) {
    table.push([
      printable(source),
      formatTime(lastUsedAt),
      formatAge(silentSeconds),
      regular && regularSince ? formatTime(regularSince) : 'not regular',
    ])
  }
  return table.toString()
}

async function forget(terminal: Terminal, pool: OwnedPool, source: string, json: boolean): Promise<0 | 1> {
  if (await retireSource(pool, source)) {
    if (json) terminal.printJson({ retired: source })
    else terminal.print(`retired ${printable(source)}`)
    return 0
  }
  const known = (await usageSources(pool)).map(source => source.source)
  const nearest = closestMatch(source, known)
  const hint =
    nearest === undefined ? 'There is none yet.' : `Did you mean ${JSON.stringify(printable(nearest))}?`
  terminal.tell(
    `error: no such source: ${JSON.stringify(printable(source))}. ${hint} "workspace-usage sources" lists them.`,
  )
  return 1
}
