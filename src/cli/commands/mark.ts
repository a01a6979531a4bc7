import { SingleBar } from 'cli-progress'
import { Command, Option } from 'commander'
import { markUsage } from '../../mark/mark.ts'
import { type DatabaseOptions, databaseOption, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption, printJson } from '../options/json-option.ts'
import { workspaceIdLines } from '../workspace-id-lines.ts'

/** Ids per INSERT: enough that the round trip does not matter, few enough that none lasts long. */
const BATCH_SIZE = 10_000

interface Options extends DatabaseOptions, JsonOptions {
  source?: string
}

export function markCommand(): Command {
  return new Command('mark')
    .description('mark workspaces as in use now')
    .argument('[id...]', 'workspace ids; without any, they are read from standard input, one a line')
    .addOption(databaseOption())
    .addOption(
      new Option('--source <name>', 'who says so (default: the application_name)').env(
        'WORKSPACE_USAGE_SOURCE',
      ),
    )
    .addOption(jsonOption())
    .action(async (ids: string[], { source, json, ...database }: Options) => {
      await withPool(database, async pool => {
        const total = { marked: 0, stored: 0, invalid: 0 }
        const store = async (batch: readonly string[]) => {
          const { marked, stored } = await markUsage(pool, batch, source === undefined ? {} : { source })
          total.marked += marked
          total.stored += stored
        }
        if (ids.length > 0) await store(ids)
        else await markLines(store, () => total.invalid++)
        if (json) printJson(total)
        else
          console.log(`marked ${total.marked} workspaces, ${total.stored} for the first time in this period`)
        if (total.invalid > 0) process.exitCode = 2
      })
    })
}

async function markLines(store: (ids: string[]) => Promise<void>, countInvalid: () => void): Promise<void> {
  if (process.stdin.isTTY)
    console.error('reading workspace ids from the terminal, one a line; end with Ctrl-D')
  const bar =
    process.stderr.isTTY && !process.stdin.isTTY
      ? new SingleBar({ format: 'marked {value} lines in {duration_formatted}', hideCursor: true })
      : undefined
  bar?.start(0, 0)
  const reader = workspaceIdLines(process.stdin, BATCH_SIZE, (line, error) => {
    countInvalid()
    console.error(`line ${line}: ${error.message}`)
  })
  try {
    for await (const { ids, lines } of reader) {
      await store(ids)
      bar?.update(lines)
    }
  } finally {
    bar?.stop()
  }
}
