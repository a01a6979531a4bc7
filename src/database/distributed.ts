import { type Connection, execute, type Statement } from './connection.ts'

/*
 * Whether the tables are distributed with Citus. `migrate({ citus: true })` creates one table last, in the transaction
 * that distributes the others. So this table tells, on every node, to every role, and without Citus as well.
 */

/** The table that tells. It has a row for each shard, and a crash of a node empties it with the marks of its shards. */
export const SHARD_WITNESS = 'pending_usage_shard_witness'

/** The copy of the sources that do not count, on each node. */
export const IGNORED_SOURCE = 'ignored_source'

/** SQL of a boolean: whether the tables that `search_path` finds are distributed. */
export const DISTRIBUTED = `(pg_catalog.to_regclass('${SHARD_WITNESS}') IS NOT NULL)`

/** Tells whether the tables are distributed. */
export async function isDistributed(connection: Connection): Promise<boolean> {
  return await holds(connection, DISTRIBUTED)
}

/** Tells whether a table is one of Citus, whoever has distributed it. */
export async function isOfCitus(connection: Connection, table: string): Promise<boolean> {
  if (!(await holds(connection, "pg_catalog.to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL"))) {
    return false
  }
  const found = await execute(connection, {
    sql: 'SELECT FROM pg_catalog.pg_dist_partition WHERE logicalrelid = pg_catalog.to_regclass($1)',
    parameters: [table],
  })
  return found.rows.length > 0
}

/** As text, because a driver may be told to read booleans in a way of its own. */
async function holds(connection: Connection, condition: string): Promise<boolean> {
  const statement: Statement<{ holds: string }> = {
    sql: `SELECT (${condition})::text AS holds`,
    parameters: [],
  }
  const { rows } = await execute(connection, statement)
  return rows[0]!.holds === 'true'
}
