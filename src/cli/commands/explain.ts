import Table from 'cli-table3'
import { explainPrivilegeError } from '../../access/refusal.ts'
import { explainUsage, type UsageExplanation } from '../../activity/explain.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { printable } from '../output/printable.ts'
import { formatAge, formatTime } from '../output/time.ts'
import type { Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions {}

export const explainCommand: Command<Options> = {
  options: () => [...databaseOptions(), jsonOption()],
  notes: 'Exits with 1 if there is no such workspace.',
  run: async (terminal, { json, ...database }, id: string) => {
    const explanation = await withPool(database, async pool => {
      try {
        return await explainUsage(pool, id)
      } catch (error) {
        throw await explainPrivilegeError(pool, error, 'reader')
      }
    })
    if (json) terminal.printJson(explanation)
    else print(terminal, explanation)
    return explanation.exists ? 0 : 1
  },
}

function print(
  terminal: Terminal,
  { workspaceId, exists, lastUsedAt, sources, asOf }: UsageExplanation,
): void {
  const ago = (time: Date) => `${formatAge((asOf.getTime() - time.getTime()) / 1_000)} ago`
  if (!exists) {
    terminal.tell(`error: no such workspace: ${workspaceId}`)
    if (sources.length > 0) terminal.tell('Somebody marks it anyway. The next flush drops these marks:')
  } else if (lastUsedAt === null) {
    terminal.print(`workspace ${workspaceId}: never used`)
  } else {
    const when = lastUsedAt > asOf ? 'in the future' : ago(lastUsedAt)
    terminal.print(`workspace ${workspaceId}: last used ${when}, ${formatTime(lastUsedAt)}`)
    if (lastUsedAt > asOf)
      terminal.print(
        'A flush does not write such a time. Something else did, perhaps by a clock that is ahead.',
      )
    const [newest] = sources
    if (!newest || newest.lastUsedAt < lastUsedAt) terminal.print('The source is not on record.')
  }
  if (sources.length === 0) return
  const table = new Table({ head: ['source', 'last used', 'ago', 'state'], style: { head: [], border: [] } })
  for (const { source, lastUsedAt, pending } of sources) {
    table.push([printable(source), formatTime(lastUsedAt), ago(lastUsedAt), pending ? 'pending' : 'flushed'])
  }
  terminal.print(table.toString())
}
