import { Command } from 'commander'
import { lastFlush } from '../job.ts'
import { pendingStatus } from '../status.ts'
import { type DatabaseOptions, databaseOption, withPool } from './database-option.ts'
import { type JsonOptions, jsonOption, printJson } from './json-option.ts'

interface Options extends DatabaseOptions, JsonOptions {}

export function statusCommand(): Command {
  return new Command('status')
    .description('pending marks, lag, and the last flush of a worker')
    .addOption(databaseOption())
    .addOption(jsonOption())
    .action(async ({ json, ...database }: Options) => {
      await withPool(database, async pool => {
        const pending = await pendingStatus(pool)
        const last = await lastFlush(pool)
        const { lagSeconds, ...counts } = pending
        if (json) return printJson({ pending: counts, lagSeconds, lastFlush: last })
        console.log(`pending     ${counts.open} marks open, ${counts.closed} closed`)
        console.log(`lag         ${lagSeconds.toFixed(1)} s`)
        if (last === null) return console.log('last flush  none within the last hour')
        const { completedAt, flushed, updated, unknown, held } = last
        console.log(
          `last flush  ${completedAt.toISOString()}: ${flushed} marks flushed, ${updated} workspaces updated, ` +
            `${unknown} unknown, ${held} held`,
        )
      })
    })
}
