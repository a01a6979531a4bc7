import type { Connection, Statement } from '../database/connection.ts'
import { executeWithin } from '../database/deadline.ts'
import { quoteLiteral } from '../database/quote.ts'
import { placeOf, qualified } from '../database/schema-path.ts'
import { workspaceIdTypeStatement } from '../database/workspace-id-type.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { explainIdType, markedId } from './id-type.ts'
import { retrySerialization } from './serialization.ts'
import { recordBatch } from './telemetry.ts'

/** What the database says of the period in which it stored a batch. */
export interface PeriodAnswer {
  /** Milliseconds from the statement's time to the period's end. */
  remainingMs: number
  /** The period's end by the database's clock, in seconds since 1970. */
  periodEnd: number
  /**
   * The server's start and the table's file. Another server, this one started anew, another database behind the same
   * address, and a table that was truncated may lack what was stored.
   */
  server: string
}

/** What the marks of one tracker have in common. */
export interface BatchOptions {
  source: string | undefined
  idType: WorkspaceIdType
}

/** Numbers as text, because a driver may parse a number into anything. */
interface AnswerRow {
  remaining_ms: string
  period_end: string
  server: string
}

/**
 * Stores a batch of a tracker with one statement.
 *
 * @param timeoutMs Milliseconds to wait for a connection, and again for the answer.
 * @returns Undefined if a driver or proxy lost the row; nothing can be remembered then.
 * @throws {NoAnswerError} If no answer came in time.
 * @throws {WorkspaceIdTypeError} If the ids of the database are of another type.
 */
export async function storeBatch(
  connection: Connection,
  ids: Iterable<string>,
  { source, idType }: BatchOptions,
  timeoutMs: number,
): Promise<PeriodAnswer | undefined> {
  const batch = [...ids]
  const statement = storeStatement(batch, { source, idType }, placeOf(connection).schema)
  const ask = async () => {
    const { rows } = await executeWithin(connection, workspaceIdTypeStatement, timeoutMs)
    return rows[0]!.type
  }
  const { rows } = await explainIdType(idType, ask, () =>
    recordBatch(source, batch.length, () =>
      retrySerialization(() => executeWithin(connection, statement, timeoutMs)),
    ),
  )
  const row = rows[0]
  return (
    row && {
      remainingMs: Number(row.remaining_ms),
      periodEnd: Number(row.period_end),
      server: row.server,
    }
  )
}

/**
 * The INSERT, and a row that tells until when its marks count.
 *
 * The clock is read for the row first, because the INSERT selects from what was read. So each mark falls in that period
 * or in a later one, however long the statement runs, and a repeat before the end of that period needs no statement.
 * The end is computed once. What remains is counted from the statement's time, which is not later than that reading.
 */
function storeStatement(
  ids: readonly string[],
  { source, idType }: BatchOptions,
  schema: string | undefined,
): Statement<AnswerRow> {
  const table = qualified(schema, 'pending_usage')
  const column = source === undefined ? '' : ', source'
  const values = source === undefined ? markedId(table) : `${markedId(table)}, $2::text`
  return {
    sql: `WITH clock AS MATERIALIZED (SELECT ${qualified(schema, 'usage_period_end')}() AS period_end), stored AS (
        INSERT INTO ${table} (workspace_id${column})
          SELECT ${values} FROM clock, unnest($1::${idType}[]) AS marked (id) ORDER BY id ON CONFLICT DO NOTHING)
      SELECT
        (extract(epoch FROM period_end - statement_timestamp()) * 1000)::text AS remaining_ms,
        extract(epoch FROM period_end)::text AS period_end,
        concat_ws(
          ' ', extract(epoch FROM pg_postmaster_start_time()), pg_relation_filepath(${quoteLiteral(table)})
        ) AS server
      FROM clock`,
    parameters: source === undefined ? [ids] : [ids, source],
    ...(schema !== undefined && { schema }),
  }
}
