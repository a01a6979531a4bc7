import { NotCoordinatorError, NotMigratedError } from '../errors.ts'
import { type Connection, execute, type Statement } from './connection.ts'

/*
 * Whether the tables are distributed with Citus. `migrate({ citus: true })` creates one table last, in the transaction
 * that distributes the others. So this table tells, on every node, to every role, and without Citus as well.
 */

/** The table that tells. It has a row for each shard, and a crash of a node empties it with the marks of its shards. */
export const SHARD_WITNESS = 'pending_usage_shard_witness'

/** The copy of the sources that do not count, on each node. */
export const IGNORED_SOURCE = 'ignored_source'

/** Our tables that are distributed beside the workspaces, so that a flush works on each shard by itself. */
export const SHARDED_TABLES = [
  'pending_usage',
  'workspace_usage',
  'workspace_usage_day',
  'set_aside_usage',
  'refused_usage',
  'stopped_workspaces',
]

/** Our tables that stay on the coordinator. */
export const COORDINATOR_TABLES = [
  'source_usage',
  'pending_usage_witness',
  'pending_usage_place',
  'pending_usage_reset',
]

/** SQL of a boolean: whether the tables that `search_path` finds are distributed. */
export const DISTRIBUTED = `(pg_catalog.to_regclass('${SHARD_WITNESS}') IS NOT NULL)`

/** Tells whether the tables are distributed. */
export async function isDistributed(connection: Connection): Promise<boolean> {
  return await holds(connection, DISTRIBUTED)
}

/**
 * Runs something that needs what is on the coordinator alone.
 *
 * @throws {NotCoordinatorError} If something is missing because this is another node of the cluster.
 */
export async function onCoordinator<Result>(
  connection: Connection,
  run: () => Promise<Result>,
): Promise<Result> {
  try {
    return await run()
  } catch (error) {
    throw error instanceof NotMigratedError ? await orNotCoordinator(connection, error) : error
  }
}

/** The error, or that this is another node of the cluster, if that is why something is missing. */
export async function orNotCoordinator(connection: Connection, error: NotMigratedError): Promise<Error> {
  const isOther = await isOtherNode(connection).catch(() => false)
  return isOther ? new NotCoordinatorError({ cause: error }) : error
}

/** Tells whether the tables are distributed, and this node is not the coordinator. */
export async function isOtherNode(connection: Connection): Promise<boolean> {
  return (await isDistributed(connection)) && !(await holds(connection, 'pg_catalog.citus_is_coordinator()'))
}

/** Tells whether the database has Citus. */
export async function hasCitus(connection: Connection): Promise<boolean> {
  return await holds(connection, "EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus')")
}

/** Tells whether a table is one of Citus, whoever has distributed it. */
export async function isOfCitus(connection: Connection, table: string): Promise<boolean> {
  if (!(await hasCitus(connection))) return false
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
