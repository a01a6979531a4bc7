import { InvalidArgumentError, type Option } from 'commander'
import { type Connection, execute } from '../../database/connection.ts'
import { asIsoText, parseIsoText } from '../../database/timestamp.ts'
import { UNTIL_LIMIT_SECONDS } from '../../schema/until-limit-range.ts'
import { UsageError } from '../output/failure.ts'
import { durationAllowedBy } from './duration.ts'
import { switchOption, VariableOption } from './variable-option.ts'

/** The options of `mark` for a use until a time ahead. */
export interface HoldingOptions {
  for?: number
  until?: Date
  end: boolean
  everySource: boolean
}

export function holdingOptions(): Option[] {
  return [
    new VariableOption('--for <duration>', 'in use for so long, such as 2h', 'WORKSPACE_USAGE_MARK_FOR')
      .argParser(durationAllowedBy(UNTIL_LIMIT_SECONDS))
      .conflicts(['until', 'end']),
    new VariableOption(
      '--until <time>',
      'in use until then, such as 2030-01-31T08:00Z',
      'WORKSPACE_USAGE_MARK_UNTIL',
    )
      .argParser(parseTime)
      .conflicts(['end']),
    switchOption('--end', 'end a use that --for or --until began', 'WORKSPACE_USAGE_MARK_END'),
    switchOption('--every-source', 'with --end: of every source', 'WORKSPACE_USAGE_EVERY_SOURCE'),
  ]
}

/**
 * The time until which the workspaces are in use. Undefined if they are in use now. A length of time is counted by the
 * database's clock.
 *
 * @throws {UsageError} If options do not fit together.
 */
export async function timeAhead(
  connection: Connection,
  { for: seconds, until, everySource }: HoldingOptions,
): Promise<Date | undefined> {
  if (everySource) throw new UsageError('--every-source needs --end')
  if (seconds === undefined) return until
  const { rows } = await execute<{ now: string }>(connection, {
    sql: `SELECT ${asIsoText('clock_timestamp()')} AS now`,
    parameters: [],
  })
  return new Date(parseIsoText(rows[0]!.now).getTime() + seconds * 1_000)
}

const TIME = /^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)$/i

function parseTime(text: string): Date {
  const time = new Date(TIME.test(text) ? text : Number.NaN)
  if (Number.isNaN(time.getTime()))
    throw new InvalidArgumentError(
      'Allowed: a date, time and time zone, such as 2030-01-31T08:00Z or 2030-01-31T09:00+01:00.',
    )
  return time
}
