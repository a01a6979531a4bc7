import { A_CONNECTION, type Connection, execute, type Statement } from '../database/connection.ts'
import { isPool } from '../database/deadline.ts'
import { placeOf, qualified } from '../database/schema-path.ts'
import { sqlState } from '../database/sql-state.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { workspaceIdType } from '../database/workspace-id-type.ts'
import { UntilOutOfRangeError } from '../errors.ts'
import { checkOption, checkOptions, type OptionRules, whatever, YES_OR_NO } from '../options.ts'
import { canonicalWorkspaceId, type WorkspaceId, type WorkspaceIdType } from '../workspace-id.ts'
import { explainIdType, ID_TYPE_OPTION, markedId } from './id-type.ts'
import { retrySerialization } from './serialization.ts'
import { assertSource, SOURCE_OPTION } from './source.ts'

/** The rule of the option `until`. */
export const A_TIME = whatever(
  'a Date that is valid',
  value => value instanceof Date && !Number.isNaN(value.getTime()),
)

/** Options of {@link endUsage}. */
export interface EndOptions {
  /** The use of which source to end, as it was passed to `markUsage`. Default: the connection's `application_name`. */
  source?: string
  /** Whether to end the use of every source. Default false. */
  everySource?: boolean
  /** The type of `workspaces.id` in the database, as for `markUsage`. Default `uuid`. */
  idType?: WorkspaceIdType
}

const END_OPTIONS: OptionRules<EndOptions> = {
  source: SOURCE_OPTION,
  everySource: YES_OR_NO,
  idType: ID_TYPE_OPTION,
}

/** What {@link endUsage} did. */
export interface EndResult {
  /** Uses until a time ahead that it ended: one for each workspace and source. 0 if there was none. */
  ended: number
}

/**
 * Ends a use until a time ahead, which `markUsage` began with its option `until`. The workspaces were in use until now
 * then. A use that another transaction is prolonging at this moment is left alone.
 *
 * @param connection The role needs what `workspace-usage grant --holder` gives.
 * @param ids One id, or many. An empty list does nothing.
 * @throws {InvalidOptionError} If an option is not what it may be, or if both `source` and `everySource` are given.
 * @throws {UnknownOptionError} If there is no option of that name; nothing is sent then.
 * @throws {InvalidWorkspaceIdError} If one of the ids is not of the type `idType`; nothing is sent then.
 * @throws {InvalidSourceError} If the source is empty, too long or holds NUL; nothing is sent then.
 * @throws {WorkspaceIdTypeError} If the ids of the database are of another type than `idType`.
 * @throws {NotMigratedError} If there is no function `end_usage_until`.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function endUsage(
  connection: Connection,
  ids: WorkspaceId | readonly WorkspaceId[],
  options: EndOptions = {},
): Promise<EndResult> {
  checkOption('connection', connection, A_CONNECTION)
  checkOptions(options, END_OPTIONS)
  const { idType = 'uuid', everySource = false } = options
  const passed: readonly WorkspaceId[] = Array.isArray(ids) ? ids : [ids as WorkspaceId]
  const distinct = [...new Set(passed.map(id => canonicalWorkspaceId(id, idType)))]
  const source = options.source === undefined ? null : assertSource(options.source)
  if (everySource && source !== null)
    checkOption(
      'source',
      source,
      whatever('nothing with everySource', () => false),
    )
  if (distinct.length === 0) return { ended: 0 }
  const [row] = await call<{ ended: string }>(connection, idType, {
    name: 'end_usage_until',
    result: (end: string) => `sum(${end}(id, $2::text, $3::boolean))::text AS ended`,
    parameters: [distinct, source, everySource],
  })
  return { ended: Number(row!.ended) }
}

/**
 * Stores that workspaces are in use now and until a time ahead.
 *
 * @param ids Distinct, and of the type. Not empty.
 * @returns Until when all of them are in use by this source: later than asked if it was already marked for longer.
 */
export async function markUntil(
  connection: Connection,
  ids: readonly string[],
  source: string | undefined,
  until: Date,
  idType: WorkspaceIdType,
): Promise<Date> {
  try {
    const [row] = await call<{ until: string }>(connection, idType, {
      name: 'mark_usage_until',
      result: mark => `${asIsoText(`min(${mark}(id, $2::timestamptz, $3::text))`)} AS until`,
      // As text, because a driver writes a Date in the time zone of this process.
      parameters: [ids, isoText(until), source ?? null],
    })
    return parseIsoText(row!.until)
  } catch (error) {
    throw explainUntil(error, until)
  }
}

/** A function of ours that is called for each id, with the lowest id first, so that callers can't deadlock. */
interface Call {
  name: string
  /** The list of columns. */
  result(name: string): string
  parameters: readonly unknown[]
}

async function call<Row>(connection: Connection, idType: WorkspaceIdType, made: Call): Promise<Row[]> {
  const { schema } = placeOf(connection)
  const id = `${markedId(qualified(schema, 'pending_usage'))} AS id`
  const statement: Statement<Row> = {
    ...(schema !== undefined && { schema }),
    sql: `SELECT ${made.result(qualified(schema, made.name))}
      FROM (SELECT ${id} FROM unnest($1::${idType}[]) AS marked (id) ORDER BY id OFFSET 0) AS sorted`,
    parameters: made.parameters,
  }
  const run = () => execute(connection, statement)
  const { rows } = await explainIdType(
    idType,
    () => workspaceIdType(connection),
    // On a pool the statement is a transaction of its own.
    () => (isPool(connection) ? retrySerialization(run) : run()),
  )
  return rows
}

/** PostgreSQL reads years of four digits, and the function refuses what is too far away. */
function isoText(time: Date): string {
  const year = time.getUTCFullYear()
  if (year > 9_999) return 'infinity'
  return year < 1 ? '-infinity' : time.toISOString()
}

/** Goes by what mark_usage_until() puts into the fields of its error. */
function explainUntil(error: unknown, until: Date): unknown {
  if (sqlState(error) !== '22023') return error
  const { constraint, column } = error as { constraint?: unknown; column?: unknown }
  if (constraint !== 'usage_until' || typeof column !== 'string') return error
  return new UntilOutOfRangeError(until, parseIsoText(column), { cause: error })
}
