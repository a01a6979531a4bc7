import { type Kysely, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { workspacesTable } from './workspaces-table.ts'

/** What a foreign key may meet that leaves the table as useful as before. Anything else is an error. */
const LEFT_OUT = [
  '42501', // insufficient_privilege: no REFERENCES on the host's table
  '23503', // foreign_key_violation: rows of workspaces that are not there
  '42830', // invalid_foreign_key: no unique index that fits
]

/**
 * Makes `workspace_id` of a table refer to the host's table, so that a deleted workspace takes its rows with it. Through
 * a view, the foreign key goes to the table below, if this role may do so. Otherwise there is none.
 *
 * @param table Its name, as `search_path` finds it.
 * @returns Whether there is a foreign key.
 */
export async function addWorkspaceForeignKey(
  db: Connection | Kysely<never>,
  table: string,
): Promise<boolean> {
  const connection = db as Connection
  const found = await workspacesTable(connection)
  const add = (target: ReturnType<typeof sql>, column: string) =>
    execute(
      connection,
      compile(sql`
        ALTER TABLE ${sql.id(table)} ADD CONSTRAINT ${sql.id(`${table}_workspace_id_fkey`)}
        FOREIGN KEY (workspace_id) REFERENCES ${target} (${sql.id(column)}) ON DELETE CASCADE`),
    )
  if (found === null || found.views.length === 0) {
    await add(sql`workspaces`, 'id')
    return true
  }
  const { oid, schema, name, id } = found
  // Without a look beforehand, ALTER TABLE would lock the host's table and then refuse.
  if (id === null || !(await mayRefer(connection, oid, id.number))) return false
  await execute(connection, plain('SAVEPOINT adding_foreign_key'))
  try {
    await add(sql.id(schema, name), id.name)
    await execute(connection, plain('RELEASE SAVEPOINT adding_foreign_key'))
    return true
  } catch (error) {
    if (!LEFT_OUT.includes(sqlState(error) ?? '')) throw error
    await execute(connection, plain('ROLLBACK TO SAVEPOINT adding_foreign_key'))
    return false
  }
}

const plain = (text: string) => ({ sql: text, parameters: [] })

async function mayRefer(connection: Connection, oid: string, column: number): Promise<boolean> {
  const { rows } = await execute<{ may: boolean }>(connection, {
    sql: `SELECT has_schema_privilege(c.relnamespace, 'USAGE') AND c.relpersistence = 'p'
        AND has_column_privilege(c.oid, $2::int2, 'REFERENCES') AS may
      FROM pg_catalog.pg_class c WHERE c.oid = $1::oid`,
    parameters: [oid, column],
  })
  return rows[0]?.may === true
}
