import { A_CONNECTION, type Connection, execute, type Statement } from '../database/connection.ts'
import { isPool } from '../database/deadline.ts'
import { A_SCHEMA, placeOf, qualified } from '../database/schema-path.ts'
import { workspaceIdType } from '../database/workspace-id-type.ts'
import { checkOption, checkOptions, type OptionRules } from '../options.ts'
import { canonicalWorkspaceId, type WorkspaceId, type WorkspaceIdType } from '../workspace-id.ts'
import { explainIdType, ID_TYPE_OPTION } from './id-type.ts'
import { markedRows } from './marked-rows.ts'
import { countMarks } from './marks-by-source.ts'
import { retrySerialization } from './serialization.ts'
import { assertSource, SOURCE_OPTION } from './source.ts'
import { recordBatch } from './telemetry.ts'
import { A_TIME, markUntil } from './until.ts'

/** Options of {@link markUsage}. */
export interface MarkOptions {
  /**
   * Who says that the workspaces are in use: 1 to 63 characters, one of few (`ssh`, `vscode`, …), never an id.
   * Default: the connection's `application_name`, or `unknown` where that is empty.
   */
  source?: string
  /**
   * The type of `workspaces.id` in the database: `uuid`, `bigint`, `integer`, or `text` (`varchar` too). Default `uuid`.
   * A mark can't ask the database first. If it is another one, the call is refused and stores nothing.
   */
  idType?: WorkspaceIdType
  /**
   * Until when the workspaces are in use, without further marks: a time ahead, at most 24 hours, or what
   * `workspace-usage migrate --until-limit` allows. The role needs what `workspace-usage grant --holder` gives. A later
   * time of the same source takes the place of an earlier one; an earlier one changes nothing. {@link endUsage} ends it.
   * A crash of the server ends it too, because it is a pending mark. Default: they are in use in this period.
   */
  until?: Date
}

/** What the options of {@link markUsage} may be. */
export const MARK_OPTIONS: OptionRules<MarkOptions> = {
  source: SOURCE_OPTION,
  idType: ID_TYPE_OPTION,
  until: A_TIME,
}

/** Options of {@link insertPendingUsage}. */
export interface InsertOptions extends Pick<MarkOptions, 'idType'> {
  /** The schema of `pending_usage`, as in `pg_namespace`. Default: `search_path` leads to it. */
  schema?: string
}

const INSERT_OPTIONS: OptionRules<InsertOptions> = { schema: A_SCHEMA, idType: ID_TYPE_OPTION }

/** What {@link markUsage} did. */
export interface MarkResult {
  /** Distinct workspaces among the ids that were passed. */
  marked: number
  /**
   * Rows that are new. The other workspaces were already marked by this source in the open period. With `until`, and with
   * several ids on a Citus cluster, it is not known, and the same as `marked`.
   */
  stored: number
  /**
   * With `until` only: until when all of the workspaces are in use by this source. It is later than asked if they were
   * marked for longer before.
   */
  until?: Date
}

/**
 * Marks workspaces as in use now, with one INSERT. The marks are stored when the promise resolves. Inside a transaction
 * they are stored when it commits. Repeating a mark within a period changes nothing.
 *
 * Best called outside a transaction, or in a short one. Until it commits, another mark of the same workspace, period
 * and source waits for it, because only its end tells whether the row exists. A rollback takes the mark back, but not
 * from the metrics.
 *
 * @param connection Where the INSERT runs. The role needs `INSERT (workspace_id, source)` on `pending_usage`.
 * @param ids One id, or many, as {@link canonicalWorkspaceId} accepts them. The statement sorts them, so that concurrent callers can't deadlock. It stores all or
 *   none. An empty list does nothing.
 * @throws {InvalidOptionError} If `connection` is no connection, or `options` is no object; nothing is sent then.
 * @throws {UnknownOptionError} If there is no option of that name; nothing is sent then.
 * @throws {InvalidWorkspaceIdError} If one of the ids is not of the type `idType`; nothing is sent then.
 * @throws {InvalidSourceError} If the source is empty, too long or holds NUL; nothing is sent then.
 * @throws {WorkspaceIdTypeError} If the ids of the database are of another type than `idType`.
 * @throws {UntilOutOfRangeError} If `until` is not ahead, or too far ahead. Nothing was stored.
 * @throws {NotMigratedError} If there is no `pending_usage`.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function markUsage(
  connection: Connection,
  ids: WorkspaceId | readonly WorkspaceId[],
  options: MarkOptions = {},
): Promise<MarkResult> {
  checkOption('connection', connection, A_CONNECTION)
  checkOptions(options, MARK_OPTIONS)
  const { idType = 'uuid' } = options
  const passed: readonly WorkspaceId[] = Array.isArray(ids) ? ids : [ids as WorkspaceId]
  const distinct = [...new Set(passed.map(id => canonicalWorkspaceId(id, idType)))]
  const source = options.source === undefined ? undefined : assertSource(options.source)
  if (distinct.length === 0) return { marked: 0, stored: 0 }
  if (options.until !== undefined) {
    const { until } = options
    const latest = await recordBatch(source, distinct.length, () =>
      markUntil(connection, distinct, source, until, idType),
    )
    countMarks(source, passed.length, distinct.length)
    return { marked: distinct.length, stored: distinct.length, until: latest }
  }
  const { schema } = placeOf(connection)
  const statement = insertPendingUsage(distinct, source, { idType, ...(schema !== undefined && { schema }) })
  const store = () => execute(connection, statement)
  // On a pool the statement is a transaction of its own. Anything else may be in a transaction of the caller.
  const { affected } = await explainIdType(
    idType,
    () => workspaceIdType(connection),
    () =>
      recordBatch(source, distinct.length, () => (isPool(connection) ? retrySerialization(store) : store())),
  )
  countMarks(source, passed.length, distinct.length)
  return { marked: distinct.length, stored: affected ?? 0 }
}

/**
 * The mark as a statement, text and parameters, for a caller that embeds it in a statement of its own.
 *
 * `ON CONFLICT DO NOTHING` names no column, so that it needs no privilege but `INSERT (workspace_id, source)`. The
 * period comes from the column's default, so that a marker can't choose one.
 *
 * @param ids Distinct ids in their canonical form ({@link canonicalWorkspaceId}); not checked here.
 * @param source Not checked here. Undefined leaves it to the column's default.
 * @throws {InvalidOptionError} If an option is not what it may be.
 * @throws {UnknownOptionError} If there is no such option.
 */
export function insertPendingUsage(
  ids: readonly string[],
  source: string | undefined,
  options: InsertOptions = {},
): Statement<never> {
  checkOptions(options, INSERT_OPTIONS)
  const { schema, idType = 'uuid' } = options
  const table = qualified(schema, 'pending_usage')
  const column = source === undefined ? '' : ', source'
  const marked = markedRows(ids, { source, idType, listed: ids.length === 1 }, table)
  return {
    ...(schema !== undefined && { schema }),
    sql: `INSERT INTO ${table} (workspace_id${column})
          ${marked.sql} ON CONFLICT DO NOTHING`,
    parameters: marked.parameters,
  }
}
