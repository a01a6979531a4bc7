import distance from 'leven'
import { A_CONNECTION, type Connection, execute } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'
import { asIsoText } from '../database/timestamp.ts'
import { workspaceIdType } from '../database/workspace-id-type.ts'
import { SourceIgnoredError, UnknownSourceError } from '../errors.ts'
import { checkOption, whatever } from '../options.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { PENDING_MARKS } from './pending-periods.ts'
import { awaitFlushes } from './running-flushes.ts'

/** What {@link ignoreSource} did. */
export interface IgnoredSource {
  /** Whether the source did not count before. Then nothing was changed. */
  already: boolean
}

/** What {@link countSource} did. */
export interface CountedSource {
  /** Whether the source counted before. */
  already: boolean
  /** Workspaces whose last use by the source is later than their `last_used_at`. The next flush moves them forward. */
  restored: number
}

const A_NAME = whatever('the name of a source, a text', value => typeof value === 'string')

/** Workspaces that one statement looks at. It takes some hundredths of a second. */
const STEP = 10_000

/** How many names an error tells. */
const NEAREST = 3

/**
 * Lets a source no longer keep workspaces alive. It is still recorded, and `explainUsage` still shows it.
 *
 * The view `workspace_activity` leaves it out at once: its pending marks, and what it had moved before, as far as the
 * history tells that no other source used the workspace in the same five minutes. From the next flush on its marks do
 * not move `last_used_at`. `last_used_at` itself never moves back. Workers of an older release go on moving it.
 *
 * @param connection The role needs what `workspace-usage grant --worker` gives.
 * @param source As {@link usageSources} lists it.
 * @throws {InvalidOptionError} If `source` is no text; nothing is sent then.
 * @throws {UnknownSourceError} If no such source is known.
 * @throws {NotMigratedError} If there is no `source_usage`.
 * @throws {StandbyError} On a standby.
 */
export async function ignoreSource(connection: Connection, source: string): Promise<IgnoredSource> {
  return { already: await setCounts(connection, source, false) }
}

/**
 * Lets a source count again. What it used meanwhile counts too, if that is later than `last_used_at`: the view shows it,
 * and the next flush moves `last_used_at`, never back. It is repeated without harm, also after it was interrupted.
 *
 * It waits for flushes that are running, at most a minute. Then it goes over all workspaces in steps.
 *
 * @param connection Not in a transaction, so that flushes see the change. The role needs what
 *   `workspace-usage grant --worker` gives.
 * @param source As {@link usageSources} lists it.
 * @throws As {@link ignoreSource}.
 */
export async function countSource(connection: Connection, source: string): Promise<CountedSource> {
  const already = await setCounts(connection, source, true)
  // A flush that began before still believes that the source does not count.
  await awaitFlushes(connection)
  if (await isDistributed(connection)) return { already, restored: await restoreOnShards(connection, source) }
  const idType = await workspaceIdType(connection)
  let restored = 0
  let last: string | null = null
  do {
    const step = await restore(connection, source, idType, last)
    restored += step.restored
    last = step.last
  } while (last !== null)
  return { already, restored }
}

/**
 * Forgets a source that is gone for good, so that its silence is no problem any more. If it marks again, it is known
 * anew, and can go silent again after a day.
 *
 * @param connection The role needs what `workspace-usage grant --worker` gives.
 * @returns Whether the source was known.
 * @throws {SourceIgnoredError} If the source does not count. Forgetting it would let it count.
 * @throws {NotMigratedError} If there is no `source_usage`.
 * @throws {StandbyError} On a standby.
 */
export async function retireSource(connection: Connection, source: string): Promise<boolean> {
  const { rows } = await execute<{ counts: boolean }>(connection, {
    sql: `WITH known AS (SELECT source, counts FROM source_usage WHERE source = $1 FOR UPDATE),
      retired AS (DELETE FROM source_usage WHERE source IN (SELECT source FROM known WHERE counts))
      SELECT counts FROM known`,
    parameters: [source],
  })
  if (rows[0]?.counts === false) throw new SourceIgnoredError(source)
  return rows.length > 0
}

/** Returns whether it was so already. */
async function setCounts(connection: Connection, source: string, counts: boolean): Promise<boolean> {
  checkOption('connection', connection, A_CONNECTION)
  checkOption('source', source, A_NAME)
  // PostgreSQL has no such text, and no mark of it.
  if (source.includes('\0')) throw new UnknownSourceError(source, [])
  const known = await setCountsOfKnown(connection, source, counts)
  if (known !== null) return known.already
  const isPending = await knowPending(connection, source, counts)
  if (!isPending) throw new UnknownSourceError(source, await nearestSources(connection, source))
  return counts
}

async function setCountsOfKnown(
  connection: Connection,
  source: string,
  counts: boolean,
): Promise<{ already: boolean } | null> {
  const { rows } = await execute<{ already: string }>(connection, {
    sql: `WITH changed AS (
        UPDATE source_usage SET counts = $2 WHERE source = $1 AND counts <> $2 RETURNING 'no' AS already
      )
      SELECT already FROM changed UNION ALL SELECT 'yes' FROM source_usage WHERE source = $1 AND counts = $2`,
    parameters: [source, counts],
  })
  return rows[0] ? { already: rows[0].already === 'yes' } : null
}

/** A source that no flush has seen yet counts, unless it is noted that it does not. Returns whether it has marks. */
async function knowPending(connection: Connection, source: string, counts: boolean): Promise<boolean> {
  const { rows } = await execute<{ first: string | null; last: string | null }>(connection, {
    sql: `SELECT ${asIsoText('min(period_end)')} AS first, ${asIsoText('max(period_end)')} AS last
      FROM (${PENDING_MARKS}) AS marks WHERE source = $1 AND isfinite(period_end)`,
    parameters: [source],
  })
  const { first, last } = rows[0]!
  if (first === null || counts) return first !== null
  await execute(connection, {
    sql: `INSERT INTO source_usage (source, regular_since, last_used_at, counts)
      VALUES ($1, $2::timestamptz, $3::timestamptz, $4) ON CONFLICT (source) DO UPDATE SET counts = $4`,
    parameters: [source, first, last, counts],
  })
  return true
}

/** The known source whose name is most like this one, and further ones that are much like it. */
export async function nearestSources(connection: Connection, source: string): Promise<string[]> {
  const { rows } = await execute<{ source: string }>(connection, {
    sql: `SELECT source FROM source_usage UNION SELECT source FROM (${PENDING_MARKS}) AS marks`,
    parameters: [],
  })
  const much = Math.max(2, source.length / 3)
  return rows
    .map(known => ({ name: known.source, far: distance(source, known.source) }))
    .sort((a, b) => a.far - b.far || (a.name < b.name ? -1 : 1))
    .filter(({ far }, place) => place === 0 || far <= much)
    .slice(0, NEAREST)
    .map(({ name }) => name)
}

/** Puts the last uses back among the pending marks, for some workspaces in the order of their ids. */
async function restore(
  connection: Connection,
  source: string,
  idType: WorkspaceIdType,
  after: string | null,
): Promise<{ restored: number; last: string | null }> {
  const { rows } = await execute<{ step: string }>(connection, {
    sql: `WITH used AS MATERIALIZED (
        SELECT workspace_id, max(last_used_at) AS last_used_at FROM workspace_usage
        WHERE source = $1 ${after === null ? '' : `AND workspace_id > $3::${idType}`}
        GROUP BY workspace_id ORDER BY workspace_id LIMIT $2::integer
      ), restored AS (
        INSERT INTO set_aside_usage (period_end, workspace_id, source, reason, next_attempt_at)
        SELECT used.last_used_at, workspace_id, $1, 'awaited', statement_timestamp()
        FROM used JOIN workspaces w ON w.id = workspace_id
        WHERE w.last_used_at IS NULL OR w.last_used_at < used.last_used_at OR w.last_used_at = 'infinity'
        ON CONFLICT DO NOTHING
        RETURNING 1
      )
      SELECT json_build_object(
        'restored', (SELECT count(*) FROM restored),
        'last', (SELECT workspace_id::text FROM used ORDER BY workspace_id OFFSET $2::integer - 1)
      )::text AS step`,
    parameters: [source, STEP, ...(after === null ? [] : [after])],
  })
  return JSON.parse(rows[0]!.step)
}

/** The same for all workspaces at once, each shard by itself. */
async function restoreOnShards(connection: Connection, source: string): Promise<number> {
  const { rows, affected } = await execute<{ restored: string }>(connection, {
    sql: `INSERT INTO set_aside_usage (period_end, workspace_id, source, reason, next_attempt_at)
      SELECT used.last_used_at, used.workspace_id, $1, 'awaited', statement_timestamp()
      FROM (
        SELECT workspace_id, max(last_used_at) AS last_used_at FROM (
          SELECT workspace_id, source, last_used_at FROM workspace_usage
          UNION ALL SELECT workspace_id, source, last_used_at FROM workspace_usage_day
        ) AS uses
        WHERE source = $1 GROUP BY workspace_id
      ) AS used JOIN workspaces w ON w.id = used.workspace_id
      WHERE w.last_used_at IS NULL OR w.last_used_at < used.last_used_at OR w.last_used_at = 'infinity'
      ON CONFLICT DO NOTHING`,
    parameters: [source],
  })
  return affected ?? rows.length
}
