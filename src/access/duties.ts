import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { type Duty, UnknownRoleError } from '../errors.ts'
import { checkOptions, type OptionRules, whatever } from '../options.ts'
import { jobTables } from '../worker/queue.ts'
import {
  holderPrivileges,
  markerPrivileges,
  readerPrivileges,
  reaperPrivileges,
  workerPrivileges,
} from './duty-privileges.ts'
import { usageLayout } from './layout.ts'
import { type Privilege, privilegeText } from './privilege.ts'
import { assertNoRowSecurity, assertViewsSeeAllRows } from './row-security.ts'

/** Which roles have which duty. Names are spelled as in `pg_roles`. A role may have several duties. */
export interface RoleDuties {
  /** They mark: they insert a workspace and a source. They can read nothing, and can't choose the period. */
  markers?: readonly string[]
  /**
   * They run workers, or flush by hand. They may do what a flush and pg-boss's jobs need, and create nothing.
   */
  workers?: readonly string[]
  /** They read the last use through the views, pending usage included. They can't read the tables. */
  readers?: readonly string[]
  /**
   * They stop idle workspaces, by hand or on pg-boss's schedule. They read what readers read and what the checks need, and
   * can lock a workspace. What their `stop` does to the host's own tables must be granted beside.
   */
  reapers?: readonly string[]
  /** They mark workspaces as in use until a time ahead, and end that. They can read nothing, and not mark otherwise. */
  holders?: readonly string[]
}

const ROLES = whatever(
  'a list of role names',
  value => Array.isArray(value) && value.every(role => typeof role === 'string' && role !== ''),
)

/** What the duties may be. */
export const DUTY_RULES: OptionRules<RoleDuties> = {
  markers: ROLES,
  workers: ROLES,
  readers: ROLES,
  reapers: ROLES,
  holders: ROLES,
}

/**
 * Returns the statements that give each role what its duties need and no more, or that take it back. Each statement can
 * be repeated. Repeat them after an upgrade of pg-boss, because it may add tables.
 *
 * `revoke` takes back what `grant` gives, even if somebody else granted the same. It leaves USAGE of the schemas that
 * hold this package's tables. That privilege alone opens nothing, and the role may need it for the host's own tables.
 *
 * @throws {UnknownOptionError} If there is no such duty; nothing is sent then.
 * @throws {InvalidOptionError} If a duty is not a list of role names; nothing is sent then.
 * @throws {UnknownRoleError} If a role does not exist.
 * @throws {NotMigratedError} If the database is not migrated.
 * @throws {SearchPathError} If the tables are in a schema that `search_path` does not find.
 * @throws {RowSecurityError} If row security would hide rows from a worker, or a reaper, or from the views. Only `grant`
 *   throws it.
 */
export async function privilegeStatements(
  connection: Connection,
  action: 'grant' | 'revoke',
  duties: RoleDuties,
): Promise<string[]> {
  checkOptions(duties, DUTY_RULES)
  const { markers = [], workers = [], readers = [], reapers = [], holders = [] } = duties
  const roles = [...new Set([...markers, ...workers, ...readers, ...reapers, ...holders])]
  await assertRolesExist(connection, roles)
  const layout = await usageLayout(connection)
  if (action === 'grant')
    await assertRowsVisible(connection, [...workers, ...reapers], [...readers, ...reapers])
  const tables = workers.length + reapers.length > 0 ? await jobTables(connection) : []
  const ofHolders = holders.length > 0 ? holderPrivileges(layout, await idTypeOfFunctions(connection)) : []
  const usable = action === 'grant' ? await usableSchemas(connection, roles) : undefined
  return [
    ...markers.map(role => ({ role, privileges: markerPrivileges(layout) })),
    ...workers.map(role => ({ role, privileges: workerPrivileges(layout, tables) })),
    ...readers.map(role => ({ role, privileges: readerPrivileges(layout) })),
    ...reapers.map(role => ({ role, privileges: reaperPrivileges(layout, tables) })),
    ...holders.map(role => ({ role, privileges: ofHolders })),
  ]
    .flatMap(({ role, privileges }) =>
      usable ? grants(role, privileges, usable.get(role)!) : revocations(role, privileges),
    )
    .map(statement => compile(statement).sql)
}

/**
 * What a duty needs, each privilege once.
 *
 * @throws {NotMigratedError} If the database is not migrated. For a worker or a reaper, pg-boss counts as well.
 * @throws {SearchPathError} If the tables are in a schema that `search_path` does not find.
 */
export async function dutyPrivileges(connection: Connection, duty: Duty): Promise<Privilege[]> {
  const layout = await usageLayout(connection)
  if (duty === 'marker') return markerPrivileges(layout)
  if (duty === 'reader') return readerPrivileges(layout)
  if (duty === 'holder') return holderPrivileges(layout, await idTypeOfFunctions(connection))
  const tables = await jobTables(connection)
  return duty === 'reaper' ? reaperPrivileges(layout, tables) : workerPrivileges(layout, tables)
}

/** The type of the ids as functions list it, where a varchar is no text. */
async function idTypeOfFunctions(connection: Connection): Promise<string> {
  const { rows } = await execute(
    connection,
    compile(sql<{ type: string }>`
      SELECT format_type(atttypid, NULL) AS type FROM pg_attribute
      WHERE attrelid = 'pending_usage'::regclass AND attname = 'workspace_id'`),
  )
  return rows[0]!.type
}

/**
 * Leaves out USAGE that the role already has. The owner of the tables may not own their schema, and could not grant it.
 */
function grants(role: string, privileges: Privilege[], usable: Set<string>): RawBuilder<unknown>[] {
  const missing = privileges.filter(({ on, stays }) => !stays || !usable.has(on.schema))
  return missing.map(privilege => sql`GRANT ${privilegeText(privilege)} TO ${sql.id(role)}`)
}

function revocations(role: string, privileges: Privilege[]): RawBuilder<unknown>[] {
  const taken = privileges.filter(({ stays }) => !stays).reverse()
  return taken.map(privilege => sql`REVOKE ${privilegeText(privilege)} FROM ${sql.id(role)}`)
}

/** Privileges do not help against row security. A role could be granted all this, and every flush would be refused. */
async function assertRowsVisible(
  connection: Connection,
  workers: readonly string[],
  readers: readonly string[],
): Promise<void> {
  for (const role of workers) await assertNoRowSecurity(connection, role)
  if (readers.length > 0) await assertViewsSeeAllRows(connection)
}

/** @throws {UnknownRoleError} If a role does not exist. It names all such roles. */
export async function assertRolesExist(connection: Connection, roles: readonly string[]): Promise<void> {
  const { rows } = await execute(
    connection,
    compile(
      sql<{ rolname: string }>`SELECT rolname::text FROM pg_roles WHERE rolname = ANY (${roles}::text[])`,
    ),
  )
  const unknown = roles.filter(role => !rows.some(({ rolname }) => rolname === role))
  if (unknown.length > 0) throw new UnknownRoleError(unknown)
}

/** The schemas that each role may use, also through PUBLIC or another role. */
async function usableSchemas(connection: Connection, roles: string[]): Promise<Map<string, Set<string>>> {
  const { rows } = await execute(
    connection,
    compile(sql<{ rolname: string; schemas: string | null }>`
      SELECT r.rolname::text, (json_agg(n.nspname) FILTER (WHERE n.oid IS NOT NULL))::text AS schemas
      FROM pg_roles r LEFT JOIN pg_namespace n ON has_schema_privilege(r.oid, n.oid, 'USAGE')
      WHERE r.rolname = ANY (${roles}::text[])
      GROUP BY r.rolname`),
  )
  return new Map(rows.map(({ rolname, schemas }) => [rolname, new Set<string>(JSON.parse(schemas ?? '[]'))]))
}
