import { Command, Option } from 'commander'
import { pendingStatus } from '../../activity/status.ts'
import { lastFlush } from '../../worker/queue.ts'
import { type DatabaseOptions, databaseOption, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption, printJson } from '../options/json-option.ts'
import { parseNumber } from '../options/number-option.ts'

interface Options extends DatabaseOptions, JsonOptions {
  maxLag?: number
}

export function statusCommand(): Command {
  return new Command('status')
    .description('pending marks, lag, and the last flush of a worker')
    .addOption(databaseOption())
    .addOption(
      new Option(
        '--max-lag <seconds>',
        'fail (exit code 1) if the lag is above this, for health checks and alerts',
      )
        .env('WORKSPACE_USAGE_MAX_LAG')
        .argParser(parseNumber),
    )
    .addOption(jsonOption())
    .action(async ({ maxLag, json, ...database }: Options) => {
      const { pending, last } = await withPool(database, async pool => ({
        pending: await pendingStatus(pool),
        last: await lastFlush(pool),
      }))
      const { lagSeconds, open, closed } = pending
      if (json) {
        printJson({ pending: { open, closed }, lagSeconds, lastFlush: last })
      } else {
        console.log(`pending     ${open} marks open, ${closed} closed`)
        console.log(`lag         ${lagSeconds.toFixed(1)} s`)
        console.log(`last flush  ${last === null ? 'none within the last hour' : describe(last)}`)
      }
      if (maxLag !== undefined && lagSeconds > maxLag) {
        console.error(
          `error: the lag is ${lagSeconds.toFixed(1)} s, above ${maxLag} s. Does a worker run? Its log tells.`,
        )
        process.exitCode = 1
      }
    })
}

function describe(last: NonNullable<Awaited<ReturnType<typeof lastFlush>>>): string {
  const { completedAt, flushed, updated, unknown, held } = last
  return (
    `${completedAt.toISOString()}: ${flushed} marks flushed, ${updated} workspaces updated, ` +
    `${unknown} unknown, ${held} held`
  )
}
