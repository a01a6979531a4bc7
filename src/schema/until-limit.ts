import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { NotMigratedError, SchemaChangeRefusedError } from '../errors.ts'

/** How far ahead a workspace can be in use in a new database, in seconds: a day. */
export const DEFAULT_UNTIL_LIMIT_SECONDS = 86_400

/**
 * Reads how far ahead a workspace can be in use, in seconds: the bound of the option `until` of `markUsage`.
 * `workspace-usage migrate --until-limit` sets it.
 *
 * @throws {NotMigratedError} If the database is not migrated.
 */
export async function usageUntilLimit(connection: Connection): Promise<number> {
  const { rows } = await execute(
    connection,
    compile(sql<{ seconds: string }>`SELECT date_part('epoch', usage_until_limit())::text AS seconds`),
  )
  return Number(rows[0]!.seconds)
}

/**
 * Changes it. What is in use until a later time stays so.
 *
 * @param connection Its role is the one that ran `migrate`, or a superuser.
 * @param seconds `UNTIL_LIMIT_SECONDS`; not checked here.
 * @throws {NotMigratedError} If the database is not migrated.
 * @throws {SchemaChangeRefusedError} If the role does not own the function `usage_until_limit()`.
 */
export async function setUsageUntilLimit(connection: Connection, seconds: number): Promise<void> {
  const { rows } = await execute(
    connection,
    compile(sql<{ schema: string; owner: string }>`
      SELECT n.nspname::text AS schema, pg_get_userbyid(p.proowner)::text AS owner
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE p.oid = to_regprocedure('usage_until_limit()')`),
  )
  if (!rows[0]) throw new NotMigratedError('function usage_until_limit() does not exist')
  try {
    await execute(
      connection,
      compile(sql`
        CREATE OR REPLACE FUNCTION ${sql.id(rows[0].schema, 'usage_until_limit')}() RETURNS interval
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN interval '${sql.raw(String(seconds))} seconds'`),
    )
  } catch (error) {
    if (sqlState(error) !== '42501') throw error
    const remedy = `Connect as its owner, the role "${rows[0].owner}", or as a superuser.`
    throw new SchemaChangeRefusedError((error as Error).message, remedy, { cause: error })
  }
}
