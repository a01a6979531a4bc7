import { pendingStatus } from '../../activity/status.ts'
import { whatever } from '../../options.ts'
import { lastFlush } from '../../worker/queue.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOption, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { numberAllowedBy } from '../options/parsers.ts'
import { VariableOption } from '../options/variable-option.ts'
import { count, describeFlush } from '../output/count.ts'
import { formatTime } from '../output/time.ts'

interface Options extends DatabaseOptions, JsonOptions {
  maxLag?: number
}

const LAG_SECONDS = whatever(
  'a number of seconds from 0',
  value => Number.isFinite(value) && Number(value) >= 0,
)

export const statusCommand: Command<Options> = {
  options: () => [
    databaseOption(),
    new VariableOption(
      '--max-lag <seconds>',
      'fail (exit code 1) if the lag is above this, for health checks and alerts',
      'WORKSPACE_USAGE_MAX_LAG',
    ).argParser(numberAllowedBy(LAG_SECONDS)),
    jsonOption(),
  ],
  run: async (terminal, { maxLag, json, ...database }) => {
    const { pending, last } = await withPool(database, async pool => ({
      pending: await pendingStatus(pool),
      last: await lastFlush(pool),
    }))
    const { lagSeconds, open, closed } = pending
    if (json) {
      terminal.printJson({ pending: { open, closed }, lagSeconds, lastFlush: last })
    } else {
      const flushed = last && `${formatTime(last.completedAt)}: ${describeFlush(last)}`
      terminal.print(`pending     ${count(open, 'mark')} open, ${closed} closed`)
      terminal.print(`lag         ${lagSeconds.toFixed(1)} s`)
      terminal.print(`last flush  ${flushed ?? 'none within the last hour'}`)
    }
    if (maxLag === undefined || lagSeconds <= maxLag) return 0
    terminal.tell(
      `error: the lag is ${lagSeconds.toFixed(1)} s, above ${maxLag} s. Does a worker run? Look at its log.`,
    )
    return 1
  },
}
