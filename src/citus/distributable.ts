import { type Connection, execute, type Statement } from '../database/connection.ts'
import { hasCitus } from '../database/distributed.ts'
import { workspaceIdType } from '../database/workspace-id-type.ts'
import { DistributionRefusedError } from '../errors.ts'
import { workspacesTable } from '../schema/workspaces-table.ts'

/**
 * Checks that this is the coordinator of a Citus cluster. It happens before anything is created.
 *
 * @throws {DistributionRefusedError} If it is not, or if something else is asked for that does not go together.
 */
export async function assertCoordinator(
  connection: Connection,
  { logged }: { logged: boolean | undefined },
): Promise<void> {
  if (logged !== undefined) {
    const remedy = 'Change it before, in a run of its own.'
    throw new DistributionRefusedError(
      'whether tables are LOGGED can not be changed together with that',
      remedy,
    )
  }
  if (!(await hasCitus(connection))) {
    throw new DistributionRefusedError(
      'this database has no extension "citus"',
      'Connect to the coordinator of a Citus cluster, or run CREATE EXTENSION citus on every node and add the workers.',
    )
  }
  const { rows } = await execute<{ coordinator: boolean; nodes: string }>(connection, {
    sql: `SELECT pg_catalog.citus_is_coordinator() AS coordinator,
      (SELECT count(*) FROM pg_catalog.pg_dist_node)::text AS nodes`,
    parameters: [],
  })
  const { coordinator, nodes } = rows[0]!
  if (nodes === '0') {
    const remedy =
      'Add them on the coordinator: SELECT citus_set_coordinator_host(…); SELECT citus_add_node(…).'
    throw new DistributionRefusedError('the Citus of this database knows no nodes', remedy)
  }
  if (!coordinator) {
    throw new DistributionRefusedError('this node is a worker of Citus', 'Connect to the coordinator.')
  }
}

/**
 * Citus 13 takes what is granted on a function to the nodes without quotes around the name of its schema.
 *
 * @throws {DistributionRefusedError} If the name needs quotes.
 */
export async function assertPlainSchema(connection: Connection, schema: string): Promise<void> {
  const { rows } = await execute(connection, {
    sql: 'SELECT WHERE pg_catalog.quote_ident($1) = $1',
    parameters: [schema],
  })
  if (rows.length > 0) return
  const reason = `the name of the schema ${JSON.stringify(schema)} needs quotes, which Citus leaves out`
  throw new DistributionRefusedError(
    reason,
    'Use a schema with a name in lower case, without spaces and signs.',
  )
}

/** The table of workspaces of the host, as far as it matters here. */
export interface DistributableWorkspaces {
  schema: string
  /** Whether the host has distributed it by `id`. */
  isDistributed: boolean
}

interface Facts {
  secured: boolean
  method: string | null
  replication: string | null
  colocation: string | null
  column: string | null
}

/**
 * Checks that the host's table can be distributed by its id, or is so already.
 *
 * @throws {DistributionRefusedError} If not. It names the first reason.
 */
export async function assertWorkspacesDistributable(
  connection: Connection,
): Promise<DistributableWorkspaces> {
  const table = (await workspacesTable(connection))!
  if (table.views.length > 0 || table.kind !== 'r') {
    const found =
      table.views.length > 0 ? `"workspaces" is a view of ${table.text}` : '"workspaces" is partitioned'
    throw new DistributionRefusedError(
      found,
      'Citus needs a table "workspaces" with the columns "id" and "last_used_at".',
    )
  }
  if ((await workspaceIdType(connection)) === 'text') {
    const remedy =
      'Citus needs ids of type uuid, bigint or integer, because texts of other collations can not be colocated.'
    throw new DistributionRefusedError('the ids of workspaces are texts', remedy)
  }
  const { rows } = await execute(connection, facts(table.oid))
  const found = rows[0]!
  if (found.secured) {
    const remedy = 'ALTER TABLE workspaces DISABLE ROW LEVEL SECURITY, or stay on one server.'
    throw new DistributionRefusedError('"workspaces" has row security', remedy)
  }
  return { schema: table.schema, isDistributed: isHashedById(found) }
}

const facts = (oid: string): Statement<Facts> => ({
  sql: `SELECT c.relrowsecurity AS secured, p.partmethod::text AS method, p.repmodel::text AS replication,
      p.colocationid::text AS colocation, CASE p.partmethod WHEN 'n' THEN NULL
        ELSE pg_catalog.column_to_column_name(p.logicalrelid, p.partkey) END AS column
    FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_dist_partition p ON p.logicalrelid = c.oid
    WHERE c.oid = $1::oid`,
  parameters: [oid],
})

const REMEDY =
  "Run undistribute_table('workspaces') and repeat the command, or distribute the table by its id: " +
  "create_distributed_table('workspaces', 'id')."

/** @throws {DistributionRefusedError} If the table is distributed in another way. */
function isHashedById({ method, replication, colocation, column }: Facts): boolean {
  if (method === null) return false
  if (method === 'h' && column === 'id') return true
  // Citus itself keeps a local table here that a foreign key connects with others. It can be distributed.
  if (method === 'n' && replication === 's' && colocation === '0') return false
  throw new DistributionRefusedError(`"workspaces" ${placedAs(method, replication, column)}`, REMEDY)
}

function placedAs(method: string, replication: string | null, column: string | null): string {
  if (method === 'h') return `is distributed by "${column}", and not by "id"`
  if (method === 'n' && replication === 't') return 'is a reference table'
  if (method === 'n') return 'has a single shard, as with schema-based sharding'
  return `is distributed by ${method === 'a' ? 'append' : 'range'}`
}
