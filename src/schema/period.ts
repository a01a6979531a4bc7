import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { sqlState } from '../database/sql-state.ts'
import { NotMigratedError, SchemaChangeRefusedError } from '../errors.ts'
import { type Allowed, checkOption, whatever } from '../options.ts'

/** The length of a period in a new database, in seconds. */
export const DEFAULT_PERIOD_SECONDS = 30

/** What {@link setUsagePeriod} accepts: 0.1 to 3600 seconds, in whole milliseconds. */
export const PERIOD_SECONDS: Allowed = whatever(
  '0.1 to 3600 seconds, with at most 3 decimals',
  value => typeof value === 'number' && value >= 0.1 && value <= 3_600 && value === Number(value.toFixed(3)),
)

/**
 * Reads the length of a period, in seconds.
 *
 * @throws {NotMigratedError} If the database is not migrated.
 */
export async function usagePeriod(connection: Connection): Promise<number> {
  const { schema } = await periodFunction(connection)
  const { rows } = await execute(
    connection,
    compile(sql<{ seconds: string }>`
      SELECT extract(epoch FROM ${sql.id(schema, 'usage_period')}())::text AS seconds`),
  )
  return Number(rows[0]!.seconds)
}

/**
 * Changes the length of a period, for all services at once. The next mark falls in a period of the new length.
 *
 * No mark is lost by this. Stored marks keep the end of their period. A tracker learns the new end with its next
 * statement. `last_used_at` is the end of a period, so it is exact to the length of one period. A longer period means
 * fewer rows and later flushes, and a crash of the server can lose more marks.
 *
 * @param connection Its role is the one that ran `migrate`, or a superuser.
 * @param seconds 0.1 to 3600 seconds, with at most 3 decimals. A new database has 30.
 * @throws {InvalidOptionError} If `seconds` is not that; nothing is sent then.
 * @throws {NotMigratedError} If the database is not migrated.
 * @throws {SchemaChangeRefusedError} If the role does not own the function `usage_period()`.
 */
export async function setUsagePeriod(connection: Connection, seconds: number): Promise<void> {
  checkOption('seconds', seconds, PERIOD_SECONDS)
  const { schema, owner } = await periodFunction(connection)
  try {
    await execute(
      connection,
      compile(sql`
        CREATE OR REPLACE FUNCTION ${sql.id(schema, 'usage_period')}() RETURNS interval
        LANGUAGE sql STABLE PARALLEL SAFE
        RETURN interval '${sql.raw(String(seconds))} seconds'`),
    )
  } catch (error) {
    if (sqlState(error) !== '42501') throw error
    const remedy = `Connect as its owner, the role "${owner}", or as a superuser.`
    throw new SchemaChangeRefusedError((error as Error).message, remedy, { cause: error })
  }
}

/**
 * Finds the `usage_period()` that `usage_period_end()` calls. `search_path` may lead to another function of this name.
 */
async function periodFunction(connection: Connection): Promise<{ schema: string; owner: string }> {
  const { rows } = await execute(
    connection,
    compile(sql<{ schema: string; owner: string }>`
      SELECT n.nspname::text AS schema, pg_get_userbyid(p.proowner)::text AS owner
      FROM pg_depend d
      JOIN pg_proc p ON p.oid = d.refobjid AND p.proname = 'usage_period'
      JOIN pg_namespace n ON n.oid = p.pronamespace
      WHERE d.classid = 'pg_proc'::regclass AND d.objid = 'usage_period_end()'::regprocedure
        AND d.refclassid = 'pg_proc'::regclass`),
  )
  if (!rows[0]) throw new NotMigratedError('function usage_period() does not exist')
  return rows[0]
}
