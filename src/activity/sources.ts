import { type Connection, execute, type Statement } from '../database/connection.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { PENDING_MARKS } from './pending-periods.ts'
import { assertVisible, hiddenTable } from './visible.ts'

/** A source of marks, and whether it is still there. */
export interface UsageSource {
  source: string
  /** The end of the last period with a mark of it. Marks that are not flushed yet count. */
  lastUsedAt: Date
  /** Since when it was seen without a gap of more than an hour. Null if no mark of it was flushed yet. */
  regularSince: Date | null
  /** Whether it was seen without such a gap for a day. Only such a source can go silent. */
  regular: boolean
  /** Seconds since `lastUsedAt`, by the database's clock. 0 if the last use is in the open period. */
  silentSeconds: number
  /** Whether its marks keep a workspace alive: see {@link ignoreSource}. */
  counts: boolean
  /**
   * Distinct workspaces that it used in the last 24 hours, by the history and the pending marks. Workers that do not
   * write the history (`sources: false`) leave only the pending ones.
   */
  workspacesLastDay: number
}

/** A regular source that was not seen for a time. */
export interface SilentSource {
  source: string
  lastUsedAt: Date
  silentSeconds: number
}

const IS_REGULAR = `last_used_at - regular_since >= interval '1 day'`

const TODAY = `(statement_timestamp() AT TIME ZONE 'UTC')::date`
const SINCE = `statement_timestamp() - interval '1 day'`

/**
 * SQL of who used what in the last 24 hours, each pair once. There is an index of days. A pair has one row for a day, so
 * only what has none for today is looked at twice. To sort all of them would take ten times as long.
 */
const USED_LAST_DAY = `
  SELECT source FROM workspace_usage_day WHERE day = ${TODAY}
  UNION ALL
  SELECT source FROM workspace_usage_day u WHERE day = ${TODAY} - 1 AND last_used_at > ${SINCE} AND NOT EXISTS (
    SELECT FROM workspace_usage_day t
    WHERE t.day = ${TODAY} AND t.workspace_id = u.workspace_id AND t.source = u.source
  )
  UNION ALL
  SELECT source FROM (
    SELECT DISTINCT source, workspace_id FROM (${PENDING_MARKS}) AS marks WHERE period_end > ${SINCE}
  ) AS p WHERE NOT EXISTS (
    SELECT FROM workspace_usage_day u
    WHERE u.day >= ${TODAY} - 1 AND u.last_used_at > ${SINCE} AND u.workspace_id = p.workspace_id AND u.source = p.source
  )`

interface Row {
  line: string
  hidden: string | null
}

type Line = Omit<UsageSource, 'lastUsedAt' | 'regularSince'> & {
  lastUsedAt: string
  regularSince: string | null
}

/**
 * Lists the sources that have marked, the one that was seen last first. The 1,000 first ones are known.
 *
 * @param connection The role needs what `workspace-usage grant --worker` gives.
 * @throws {NotMigratedError} If there is no `source_usage`.
 * @throws {RowSecurityError} If row-level security may hide rows from the role.
 * @throws {StandbyError} On a standby.
 */
export async function usageSources(connection: Connection): Promise<UsageSource[]> {
  const statement: Statement<Row> = {
    sql: `WITH pending AS (
        SELECT source, max(period_end) AS period_end FROM (${PENDING_MARKS}) AS marks GROUP BY source
      ),
      recent AS (
        SELECT source, count(*) AS workspaces FROM (${USED_LAST_DAY}) AS used GROUP BY source
      ),
      known AS (
        SELECT source, greatest(last_used_at, period_end) AS last_used_at, regular_since,
          coalesce(${IS_REGULAR}, false) AS regular, coalesce(counts, true) AS counts,
          coalesce(workspaces, 0) AS workspaces
        FROM source_usage FULL JOIN pending USING (source) LEFT JOIN recent USING (source)
      )
      SELECT json_build_object(
        'source', source, 'lastUsedAt', ${asIsoText('last_used_at')}, 'regularSince', ${asIsoText('regular_since')},
        'regular', regular,
        'silentSeconds', greatest(0, extract(epoch FROM statement_timestamp() - last_used_at)),
        'counts', counts, 'workspacesLastDay', workspaces
      )::text AS line, hidden
      FROM (SELECT ${hiddenTable('source_usage', 'pending_usage', 'workspace_usage_day')} AS hidden) asked
      LEFT JOIN known ON true
      ORDER BY last_used_at DESC, source COLLATE "C"`,
    parameters: [],
  }
  const { rows } = await execute(connection, statement)
  assertVisible(rows[0]!.hidden)
  const lines = rows.map(({ line }): Line => JSON.parse(line))
  return lines
    .filter(({ source }) => source !== null)
    .map(({ lastUsedAt, regularSince, ...line }) => ({
      ...line,
      lastUsedAt: parseIsoText(lastUsedAt),
      regularSince: regularSince === null ? null : parseIsoText(regularSince),
    }))
}

/**
 * Lists the regular sources that were not seen for a time, the longest silence first. Sources that do not count are left
 * out. Marks that are not flushed yet
 * count as seen. So nobody seems silent because flushes fail.
 *
 * @param seconds How long the silence must last.
 * @throws As {@link usageSources}.
 */
export async function silentSources(connection: Connection, seconds: number): Promise<SilentSource[]> {
  const statement: Statement<Row> = {
    sql: `WITH candidate AS MATERIALIZED (
        SELECT source, last_used_at FROM source_usage
        WHERE counts AND ${IS_REGULAR} AND last_used_at < statement_timestamp() - make_interval(secs => $1)
      ), pending AS MATERIALIZED (
        SELECT source, max(period_end) AS period_end FROM (${PENDING_MARKS}) AS marks
        WHERE source = ANY (ARRAY (SELECT source FROM candidate)) AND EXISTS (SELECT FROM candidate)
        GROUP BY source
      ), silent AS (
        SELECT source, greatest(last_used_at, period_end) AS last_used_at FROM candidate LEFT JOIN pending USING (source)
      )
      SELECT json_build_object(
        'source', source, 'lastUsedAt', ${asIsoText('last_used_at')},
        'silentSeconds', extract(epoch FROM statement_timestamp() - last_used_at)
      )::text AS line, hidden
      FROM (SELECT ${hiddenTable('source_usage', 'pending_usage')} AS hidden) asked
      LEFT JOIN silent ON last_used_at < statement_timestamp() - make_interval(secs => $1)
      ORDER BY last_used_at, source COLLATE "C"`,
    parameters: [seconds],
  }
  const { rows } = await execute(connection, statement)
  assertVisible(rows[0]!.hidden)
  return rows
    .map(({ line }): Line => JSON.parse(line))
    .filter(({ source }) => source !== null)
    .map(({ source, lastUsedAt, silentSeconds }) => ({
      source,
      lastUsedAt: parseIsoText(lastUsedAt),
      silentSeconds,
    }))
}
