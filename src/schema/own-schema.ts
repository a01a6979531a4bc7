import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { SchemaChangeRefusedError } from '../errors.ts'

/** By this comment a schema that we created is recognised. */
const COMMENT = 'Created by workspace-usage.'

/**
 * Creates a schema if it is missing, with a comment by which {@link dropSchemaIfOurs} recognises it.
 *
 * @throws {SchemaChangeRefusedError} If the role may not create schemas. The transaction is aborted then.
 */
export async function createSchemaIfMissing(transaction: Connection, schema: string): Promise<void> {
  // Not CREATE SCHEMA IF NOT EXISTS, which needs the right to create one even if it exists.
  if (await schemaExists(transaction, schema)) return
  try {
    await execute(transaction, compile(sql`CREATE SCHEMA ${sql.id(schema)}`))
  } catch (error) {
    if (sqlState(error) !== '42501') throw error
    const name = JSON.stringify(schema)
    throw new SchemaChangeRefusedError(
      (error as Error).message,
      `The schema ${name} does not exist, and this role may not create it. As the owner of the database, run ` +
        `CREATE SCHEMA ${name} AUTHORIZATION … with the role that migrates, or grant it CREATE ON DATABASE.`,
      { cause: error },
    )
  }
  await execute(transaction, compile(sql`COMMENT ON SCHEMA ${sql.id(schema)} IS ${sql.lit(COMMENT)}`))
}

/** Whether there is a schema of this name. */
export async function schemaExists(connection: Connection, schema: string): Promise<boolean> {
  const { rows } = await execute(
    connection,
    compile(sql`SELECT FROM pg_catalog.pg_namespace WHERE nspname = ${schema}::name`),
  )
  return rows.length > 0
}

/**
 * Drops a schema that we created, if nothing is in it.
 *
 * @returns Whether it was dropped, or why a schema of ours stays. `not ours` if somebody else created it.
 */
export async function dropSchemaIfOurs(
  transaction: Connection,
  schema: string,
): Promise<'dropped' | 'not ours' | 'not empty'> {
  const { rows } = await execute(
    transaction,
    compile(sql<{ ours: string; empty: string }>`
      SELECT (pg_catalog.obj_description(n.oid, 'pg_namespace') IS NOT DISTINCT FROM ${COMMENT}::text)::text AS ours,
        (NOT EXISTS (
          SELECT FROM pg_catalog.pg_depend d
          WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = n.oid AND d.deptype = 'n'
        ))::text AS empty
      FROM pg_catalog.pg_namespace n WHERE n.nspname = ${schema}::name`),
  )
  const [found] = rows
  if (found?.ours !== 'true') return 'not ours'
  if (found.empty !== 'true') return 'not empty'
  await execute(transaction, compile(sql`DROP SCHEMA ${sql.id(schema)}`))
  return 'dropped'
}
