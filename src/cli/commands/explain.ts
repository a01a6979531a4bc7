import Table from 'cli-table3'
import { Command } from 'commander'
import { explainPrivilegeError } from '../../access/refusal.ts'
import { explainUsage, type UsageExplanation } from '../../activity/explain.ts'
import { type DatabaseOptions, databaseOption, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption, printJson } from '../options/json-option.ts'
import { formatAge, formatTime } from '../output/age.ts'
import { printable } from '../output/printable.ts'

interface Options extends DatabaseOptions, JsonOptions {}

export function explainCommand(): Command {
  return new Command('explain')
    .description('what keeps a workspace alive: last use by source, pending use included')
    .argument('<id>', 'workspace id')
    .addOption(databaseOption())
    .addOption(jsonOption())
    .addHelpText('after', '\nExits with 1 if there is no such workspace.')
    .action(async (id: string, { json, ...database }: Options) => {
      const explanation = await withPool(database, async pool => {
        try {
          return await explainUsage(pool, id)
        } catch (error) {
          throw await explainPrivilegeError(pool, error, 'reader')
        }
      })
      if (json) printJson(explanation)
      else print(explanation)
      if (!explanation.exists) process.exitCode = 1
    })
}

function print({ workspaceId, exists, lastUsedAt, sources, asOf }: UsageExplanation): void {
  const ago = (time: Date) => `${formatAge((asOf.getTime() - time.getTime()) / 1_000)} ago`
  if (!exists) console.error(`error: no such workspace: ${workspaceId}`)
  else if (lastUsedAt === null) console.log(`workspace ${workspaceId}: never used`)
  else console.log(`workspace ${workspaceId}: last used ${ago(lastUsedAt)}, ${formatTime(lastUsedAt)}`)
  if (exists && lastUsedAt !== null && !(sources[0] && sources[0].lastUsedAt >= lastUsedAt)) {
    console.log('By which source is not on record.')
  }
  if (sources.length === 0) return
  if (!exists) console.error('It is being marked all the same; the next flush drops these marks:')
  const table = new Table({ head: ['source', 'last used', 'ago', 'state'], style: { head: [], border: [] } })
  for (const { source, lastUsedAt, pending } of sources) {
    table.push([printable(source), formatTime(lastUsedAt), ago(lastUsedAt), pending ? 'pending' : 'flushed'])
  }
  console.log(table.toString())
}
