import type { Connection, Statement } from '../database/connection.ts'
import { executeWithin } from '../database/deadline.ts'
import { SHARD_WITNESS } from '../database/distributed.ts'
import { quoteLiteral } from '../database/quote.ts'
import { placeOf, qualified } from '../database/schema-path.ts'
import { workspaceIdTypeStatement } from '../database/workspace-id-type.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { explainIdType } from './id-type.ts'
import { markedRows } from './marked-rows.ts'
import { storeWhatCanBe } from './nodes.ts'
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
  /** Whether the marks are distributed over the nodes of a Citus cluster. */
  distributed: boolean
  /** The ids that were not stored, because a node of the cluster is down. Absent if all were. */
  left?: LeftIds
}

/** The ids of nodes that are down. */
export interface LeftIds {
  ids: readonly string[]
  /** Why. */
  error: unknown
}

/** What the marks of one tracker have in common. */
export interface BatchOptions {
  source: string | undefined
  idType: WorkspaceIdType
  /** What an earlier answer has told of that. It makes the statement fast there; another one works as well. */
  distributed?: boolean
}

/** Numbers as text, because a driver may parse a number into anything. */
interface AnswerRow {
  remaining_ms: string
  period_end: string
  server: string
  distributed: string
}

/**
 * Stores a batch of a tracker with one statement. If a node of a Citus cluster is down, it needs one for each node, and
 * leaves some ids.
 *
 * @param timeoutMs Milliseconds to wait for a connection, and again for the answer.
 * @returns Undefined if a driver or proxy lost the row; nothing can be remembered then.
 * @throws {NoAnswerError} If no answer came in time.
 * @throws {WorkspaceIdTypeError} If the ids of the database are of another type.
 */
export async function storeBatch(
  connection: Connection,
  ids: Iterable<string>,
  options: BatchOptions,
  timeoutMs: number,
): Promise<PeriodAnswer | undefined> {
  const { source, idType } = options
  const batch = [...ids]
  const ask = async () => {
    const { rows } = await executeWithin(connection, workspaceIdTypeStatement, timeoutMs)
    return rows[0]!.type
  }
  return await explainIdType(idType, ask, () =>
    recordBatch(source, batch.length, () =>
      storeWhatCanBe(connection, batch, options, timeoutMs, async (some, distributed) => {
        const statement = storeStatement(some, { source, idType, distributed }, placeOf(connection).schema)
        const { rows } = await retrySerialization(() => executeWithin(connection, statement, timeoutMs))
        return rows[0] && answerOf(rows[0])
      }),
    ),
  )
}

function answerOf(row: AnswerRow): PeriodAnswer {
  return {
    remainingMs: Number(row.remaining_ms),
    periodEnd: Number(row.period_end),
    server: row.server,
    distributed: row.distributed === 'true',
  }
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
  { source, idType, distributed = false }: BatchOptions,
  schema: string | undefined,
): Statement<AnswerRow> {
  const table = qualified(schema, 'pending_usage')
  const column = source === undefined ? '' : ', source'
  const marked = markedRows(ids, { source, idType, listed: distributed }, table, 'clock, ')
  return {
    sql: `WITH clock AS MATERIALIZED (SELECT ${qualified(schema, 'usage_period_end')}() AS period_end), stored AS (
        INSERT INTO ${table} (workspace_id${column}) ${marked.sql} ON CONFLICT DO NOTHING)
      SELECT
        (extract(epoch FROM period_end - statement_timestamp()) * 1000)::text AS remaining_ms,
        extract(epoch FROM period_end)::text AS period_end,
        concat_ws(
          ' ', extract(epoch FROM pg_postmaster_start_time()), pg_relation_filepath(${quoteLiteral(table)})
        ) AS server,
        (to_regclass(${quoteLiteral(qualified(schema, SHARD_WITNESS))}) IS NOT NULL)::text AS distributed
      FROM clock`,
    parameters: marked.parameters,
    ...(schema !== undefined && { schema }),
  }
}
