import { formatDuration } from '../../duration.ts'
import { PERIOD_SECONDS, setUsagePeriod, usagePeriod } from '../../schema/period.ts'
import { usageUntilLimit } from '../../schema/until-limit.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { numberAllowedBy } from '../options/parsers.ts'
import { count } from '../output/count.ts'

interface Options extends DatabaseOptions, JsonOptions {}

export const periodCommand: Command<Options> = {
  options: () => [...databaseOptions(), jsonOption()],
  parseArgument: numberAllowedBy(PERIOD_SECONDS),
  notes: `last_used_at becomes the end of the last period with a mark. So it is exact to
the length of one period. With a longer period there are fewer marks to store,
but a mark waits longer for its flush.

The next mark falls in a period of the new length. Marks that are stored keep
the end of their period. Services need no restart: a tracker notices when the
period that it knows has ended.`,
  run: async (terminal, { json, ...database }, seconds?: number) =>
    await withPool(database, async pool => {
      const before = await usagePeriod(pool)
      if (seconds !== undefined) await setUsagePeriod(pool, seconds)
      const untilLimitSeconds = await usageUntilLimit(pool)
      if (json) terminal.printJson({ periodSeconds: seconds ?? before, untilLimitSeconds })
      else {
        terminal.print(describe(before, seconds))
        if (seconds === undefined)
          terminal.print(`a workspace can be in use until ${formatDuration(untilLimitSeconds)} ahead`)
      }
      return 0
    }),
}

function describe(before: number, seconds: number | undefined): string {
  if (seconds === undefined) return `a period lasts ${count(before, 'second')}`
  if (seconds === before) return `a period already lasts ${count(before, 'second')}`
  return (
    `a period lasts ${count(seconds, 'second')} now, and lasted ${count(before, 'second')} before\n` +
    'Marks that are stored keep the end of their period. Trackers notice when that has passed.'
  )
}
