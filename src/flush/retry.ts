import { sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { type AttemptOptions, attemptFlush } from './attempt.ts'
import { idSql } from './id-sql.ts'
import { forgetRefusals, type Refusal, recordRefusals } from './refusal.ts'
import type { FlushCounts } from './statement.ts'
import { REFUSED_USAGE, SET_ASIDE_USAGE } from './tables.ts'

/** The most refused workspaces that one transaction tries again. */
const MOST_CANDIDATES = 1_000

/** What a retry did. */
export interface RetryResult {
  counts: FlushCounts[]
  /** Workspaces that were refused again. */
  refusals: Refusal[]
  /** How many of the workspaces were tried. */
  tried: number
}

/** Locks refused workspaces whose next attempt is due, for this transaction. No other flush tries them meanwhile. */
export async function dueRefusals(connection: Connection): Promise<string[]> {
  const { rows } = await executeSql(
    connection,
    sql<{ id: string }>`
      SELECT workspace_id::text AS id FROM ${REFUSED_USAGE}
      WHERE next_attempt_at <= statement_timestamp()
      ORDER BY next_attempt_at LIMIT ${MOST_CANDIDATES} FOR UPDATE SKIP LOCKED`,
  )
  return rows.map(({ id }) => id)
}

/** Locks refused workspaces that follow this one by their ids, whether or not an attempt is due. */
export async function refusalsAfter(
  connection: Connection,
  last: string | null,
  idType: WorkspaceIdType,
): Promise<string[]> {
  const after = last === null ? sql`true` : sql`workspace_id > ${idSql(idType).one(last)}`
  const { rows } = await executeSql(
    connection,
    sql<{ id: string }>`
      SELECT workspace_id::text AS id FROM ${REFUSED_USAGE}
      WHERE ${after}
      ORDER BY workspace_id LIMIT ${MOST_CANDIDATES} FOR UPDATE SKIP LOCKED`,
  )
  return rows.map(({ id }) => id)
}

/**
 * Tries refused workspaces again. The first attempt is for one workspace. Each success doubles the number, because a
 * reason that is gone is often gone for all. After a failure it is one again.
 *
 * @param budgetMs No attempt begins after this time, but one is made in any case.
 */
export async function retryRefusals(
  connection: Connection,
  ids: readonly string[],
  options: AttemptOptions,
  budgetMs: number,
): Promise<RetryResult> {
  const counts: FlushCounts[] = []
  const refusals: Refusal[] = []
  const deadline = performance.now() + budgetMs
  let tried = 0
  let size = 1
  do {
    const some = ids.slice(tried, tried + size)
    const attempt = await attemptFlush(connection, { from: 'refused', among: { ids: some } }, options, 2)
    if ('counts' in attempt) {
      await forgetRefusals(connection, some, options.idType)
      counts.push(attempt.counts)
    } else if (some.length === 1)
      refusals.push(...(await recordRefusals(connection, some, attempt.reason, options.idType)))
    else {
      size = 1
      continue
    }
    tried += some.length
    size = 'counts' in attempt ? size * 2 : 1
  } while (tried < ids.length && performance.now() < deadline)
  return { counts, refusals, tried }
}

/**
 * Keeps only the newest mark of each source of refused workspaces. The older ones would change nothing any more. Those
 * that another flush tries again are left to it.
 */
export async function forgetOlderMarksOfRefused(connection: Connection): Promise<void> {
  await executeSql(
    connection,
    sql`
      DELETE FROM ${SET_ASIDE_USAGE} WHERE ctid = ANY (ARRAY (
        SELECT ctid FROM ${SET_ASIDE_USAGE}
        WHERE reason = 'refused' AND (workspace_id, source, period_end) NOT IN (
          SELECT workspace_id, source, max(period_end) FROM ${SET_ASIDE_USAGE}
          WHERE reason = 'refused' GROUP BY workspace_id, source
        )
        FOR UPDATE SKIP LOCKED
      ))
      RETURNING source`,
  )
}
