import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { executeWithoutJit } from '../database/without-jit.ts'
import { checkOptions, type OptionRules } from '../options.ts'
import { IDLE_OPTIONS } from './idle-options.ts'
import { IDLE_TIMES } from './idle-times.ts'

/** Options of {@link idleForecast}. */
export interface IdleForecastOptions {
  /** Count as due what was not used for this many seconds: 1 to 3,162,240,000 (a century). */
  idleForSeconds: number
}

const FORECAST_OPTIONS: OptionRules<IdleForecastOptions> = { idleForSeconds: IDLE_OPTIONS.idleForSeconds }

/** How many workspaces a policy would find idle: {@link idleForecast}. */
export interface IdleForecast {
  /** All workspaces. */
  workspaces: number
  /** Those that are due now, because they are idle for the asked time. A workspace that was never used counts from its creation. */
  due: number
  /** Those that will be due in a day if they are not used until then, with those that are due now. */
  dueInDay: number
  /** Those that will be due in a week if they are not used until then, with all of the above. */
  dueInWeek: number
  /** Those that were never used and whose time of creation is not known. They are not due at any time. */
  neverUsed: number
  /** Those used within the last five minutes, or in use until a time ahead. They may also count as due in a day or a week. */
  inUse: number
  /** When it was counted, by the database's clock. */
  asOf: Date
}

/**
 * Counts what would be due if workspaces were stopped after a time without use, now and later. For a change of policy:
 * call it with the old time and with the new one. One statement, which reads all workspaces.
 *
 * @param connection The role needs what `workspace-usage grant --reader` gives.
 * @throws {InvalidOptionError} If `idleForSeconds` is out of its range; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws {NotMigratedError} If the view does not exist, or is of an older version.
 * @throws {RowSecurityError} If row-level security may hide rows from the owner of the view.
 * @throws {StandbyError} On a standby.
 * @throws {NoAnswerError} If a pool does not answer within ten minutes.
 */
export async function idleForecast(
  connection: Connection,
  options: IdleForecastOptions,
): Promise<IdleForecast> {
  checkOptions(options, FORECAST_OPTIONS, ['idleForSeconds'])
  const { rows } = await executeWithoutJit(connection, compile(forecastStatement(options.idleForSeconds)))
  const { as_of, counts } = rows[0]!
  const [workspaces, due, dueInDay, dueInWeek, neverUsed, inUse] = counts.split(' ').map(Number) as Counts
  return { workspaces, due, dueInDay, dueInWeek, neverUsed, inUse, asOf: parseIsoText(as_of) }
}

type Counts = [number, number, number, number, number, number]

interface ForecastRow {
  as_of: string
  counts: string
}

function forecastStatement(idleForSeconds: number) {
  // Written out each time, and no column of a subquery: Citus would bring all workspaces to one node for that.
  const cutoff = sql`(statement_timestamp() - make_interval(secs => ${idleForSeconds}))`
  return sql<ForecastRow>`
    SELECT ${sql.raw(asIsoText('statement_timestamp()'))} AS as_of,
      concat_ws(' ',
        count(*),
        count(*) FILTER (WHERE since <= ${cutoff}),
        count(*) FILTER (WHERE since <= ${cutoff} + interval '86400 s'),
        count(*) FILTER (WHERE since <= ${cutoff} + interval '604800 s'),
        count(*) FILTER (WHERE since = 'infinity'),
        count(*) FILTER (WHERE used_until IS NOT NULL OR last_used_at >= statement_timestamp() - interval '300 s')
      ) AS counts
    FROM (${sql.raw(IDLE_TIMES)}) times`
}
