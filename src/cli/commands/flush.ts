import { setTimeout } from 'node:timers/promises'
import { SingleBar } from 'cli-progress'
import { Command, Option } from 'commander'
import { openPeriodRemaining, pendingStatus } from '../../activity/status.ts'
import { drain } from '../../flush/drain.ts'
import { DEFAULT_BATCH_SIZE } from '../../flush/flush.ts'
import { type DatabaseOptions, databaseOption, withPool } from '../options/database-option.ts'
import { batchSizeOption, sourcesOption } from '../options/flush-options.ts'
import { type JsonOptions, jsonOption, printJson } from '../options/json-option.ts'

interface Options extends DatabaseOptions, JsonOptions {
  wait: boolean
  batchSize: number
  sources: boolean
}

export function flushCommand(): Command {
  return new Command('flush')
    .description('flush now, until no closed period is left')
    .addOption(databaseOption())
    .addOption(
      new Option('--wait', 'wait for the open period to close first')
        .env('WORKSPACE_USAGE_WAIT')
        .default(false)
        .preset(true),
    )
    .addOption(batchSizeOption(DEFAULT_BATCH_SIZE))
    .addOption(sourcesOption())
    .addOption(jsonOption())
    .action(async ({ wait, batchSize, sources, json, ...database }: Options) => {
      await withPool(database, async pool => {
        if (wait) {
          const remaining = await openPeriodRemaining(pool)
          if (process.stderr.isTTY)
            console.error(`the open period closes in ${(remaining / 1000).toFixed(1)} s`)
          await setTimeout(Math.ceil(remaining) + 1)
        }
        const started = performance.now()
        const bar = process.stderr.isTTY
          ? new SingleBar({ format: 'flushing {bar} {value}/{total} marks' })
          : undefined
        bar?.start((await pendingStatus(pool)).closed, 0)
        const result = await drain(pool, {
          batchSize,
          sources,
          onFlush: ({ flushed, held }) => bar?.increment(flushed + held),
        })
        bar?.stop()
        const durationMs = Math.round(performance.now() - started)
        if (json) return printJson({ ...result, durationMs })
        const { flushed, updated, unknown, held, flushes } = result
        console.log(
          `marks flushed: ${flushed} (batches: ${flushes}, ${durationMs} ms), workspaces updated: ${updated}, ` +
            `marks of unknown workspaces: ${unknown}, marks held: ${held}`,
        )
      })
    })
}
