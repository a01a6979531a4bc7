import type { Connection } from '../database/connection.ts'
import { executeWithin } from '../database/deadline.ts'
import { quoteLiteral } from '../database/quote.ts'
import { placeOf, qualified } from '../database/schema-path.ts'
import { sqlState } from '../database/sql-state.ts'
import type { BatchOptions, PeriodAnswer } from './batch.ts'

/*
 * What a batch of marks does on a Citus cluster. There, the marks of a batch lie on several nodes.
 */

/**
 * The SQLSTATEs of a node that is down, that starts or that stops, seen from another one. The last one is what Citus says
 * of a connection that breaks in a transaction.
 */
const NODE_DOWN = ['08', '57P01', '57P02', '57P03', 'XX000']

/** Stores ids with one statement: all or none. */
type Store = (ids: readonly string[], distributed: boolean) => Promise<PeriodAnswer | undefined>

/**
 * Stores ids. If that fails because a node of a cluster is down, it stores those of each node by themselves.
 *
 * @throws What storing all of them threw, if none could be stored.
 */
export async function storeWhatCanBe(
  connection: Connection,
  ids: readonly string[],
  { idType, distributed = false }: BatchOptions,
  timeoutMs: number,
  store: Store,
): Promise<PeriodAnswer | undefined> {
  try {
    return await store(ids, distributed)
  } catch (error) {
    if (!isNodeDown(error)) throw error
    const nodes = await idsByNode(connection, ids, idType, timeoutMs)
    if (nodes.length < 2) throw error
    // The answer of the first statement holds for the later ones: their period is the same or a later one.
    let first: PeriodAnswer | undefined
    const left: string[] = []
    let reason: unknown
    for (const some of nodes) {
      try {
        const answer = await store(some, true)
        first ??= answer
      } catch (failure) {
        left.push(...some)
        reason = failure
      }
    }
    if (first === undefined) throw error
    return left.length > 0 ? { ...first, left: { ids: left, error: reason } } : first
  }
}

/** An error of a socket has no SQLSTATE: then it is not a node behind this one that is down. */
function isNodeDown(error: unknown): boolean {
  return NODE_DOWN.some(code => sqlState(error)?.startsWith(code))
}

/** The ids, by the node that holds their shard. A role that may only mark may ask that. Empty if this is no cluster. */
async function idsByNode(
  connection: Connection,
  ids: readonly string[],
  idType: string,
  timeoutMs: number,
): Promise<string[][]> {
  const { schema } = placeOf(connection)
  const table = quoteLiteral(qualified(schema, 'pending_usage'))
  const statement = {
    sql: `SELECT json_agg(marked.id::text)::text AS ids
      FROM unnest($1::${idType}[]) AS marked (id)
      JOIN pg_catalog.pg_dist_shard s ON s.logicalrelid = ${table}::regclass
        AND pg_catalog.worker_hash(marked.id) BETWEEN s.shardminvalue::integer AND s.shardmaxvalue::integer
      JOIN pg_catalog.pg_dist_placement p USING (shardid)
      GROUP BY p.groupid`,
    parameters: [ids],
    ...(schema !== undefined && { schema }),
  }
  const { rows } = await executeWithin<{ ids: string }>(connection, statement, timeoutMs).catch(() => ({
    rows: [],
  }))
  return rows.map(row => JSON.parse(row.ids) as string[])
}
