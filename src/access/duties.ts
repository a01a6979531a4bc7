import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { UnknownRoleError } from '../errors.ts'
import { checkOptions, type OptionRules, whatever } from '../options.ts'
import { JOB_SCHEMA, type JobTable, jobTables } from '../worker/queue.ts'
import { type UsageLayout, usageLayout } from './layout.ts'
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
}

const ROLES = whatever(
  'a list of role names',
  value => Array.isArray(value) && value.every(role => typeof role === 'string' && role !== ''),
)

/** What the duties may be. */
export const DUTY_RULES: OptionRules<RoleDuties> = { markers: ROLES, workers: ROLES, readers: ROLES }

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
 * @throws {RowSecurityError} If row security would hide rows from a worker, or from the views of the readers. Only
 *   `grant` throws it.
 */
export async function privilegeStatements(
  connection: Connection,
  action: 'grant' | 'revoke',
  duties: RoleDuties,
): Promise<string[]> {
  checkOptions(duties, DUTY_RULES)
  const { markers = [], workers = [], readers = [] } = duties
  const roles = [...new Set([...markers, ...workers, ...readers])]
  await assertRolesExist(connection, roles)
  const layout = await usageLayout(connection)
  if (action === 'grant') await assertRowsVisible(connection, workers, readers)
  const ofWorkers = workers.length > 0 ? workerPrivileges(layout, await jobTables(connection)) : []
  const usable = action === 'grant' ? await usableSchemas(connection, roles) : undefined
  return [
    ...markers.map(role => ({ role, privileges: markerPrivileges(layout) })),
    ...workers.map(role => ({ role, privileges: ofWorkers })),
    ...readers.map(role => ({ role, privileges: readerPrivileges(layout) })),
  ]
    .flatMap(({ role, privileges }) =>
      usable ? grants(role, privileges, usable.get(role)!) : revocations(role, privileges),
    )
    .map(statement => compile(statement).sql)
}

interface Privilege {
  /** The text between GRANT and TO. */
  what: RawBuilder<unknown>
  /** The name of the schema, if this is USAGE of a schema that holds this package's tables. */
  usageOf?: string
}

/**
 * Leaves out USAGE that the role already has. The owner of the tables may not own their schema, and could not grant it.
 */
function grants(role: string, privileges: Privilege[], usable: Set<string>): RawBuilder<unknown>[] {
  const missing = privileges.filter(({ usageOf }) => usageOf === undefined || !usable.has(usageOf))
  return missing.map(({ what }) => sql`GRANT ${what} TO ${sql.id(role)}`)
}

function revocations(role: string, privileges: Privilege[]): RawBuilder<unknown>[] {
  const taken = privileges.filter(({ usageOf }) => usageOf === undefined).reverse()
  return taken.map(({ what }) => sql`REVOKE ${what} FROM ${sql.id(role)}`)
}

function markerPrivileges({ pending_usage: schema }: UsageLayout): Privilege[] {
  return [
    usage(schema),
    { what: sql`INSERT (workspace_id, source) ON ${sql.id(schema, 'pending_usage')}` },
    // The default of period_end calls both functions as the marker. The host may have revoked EXECUTE from PUBLIC.
    ...['usage_period_end', 'usage_period'].map(name => ({
      what: sql`EXECUTE ON FUNCTION ${sql.id(schema, name)}()`,
    })),
  ]
}

function workerPrivileges(layout: UsageLayout, tables: JobTable[]): Privilege[] {
  const pending = sql.id(layout.pending_usage, 'pending_usage')
  const bySource = sql.id(layout.workspace_usage, 'workspace_usage')
  const workspaces = sql.id(layout.workspaces, 'workspaces')
  const jobSchema = sql.id(JOB_SCHEMA)
  return [
    ...[...new Set([layout.pending_usage, layout.workspace_usage, layout.workspaces])].map(usage),
    // SELECT … FOR UPDATE needs UPDATE on at least one column.
    { what: sql`SELECT, DELETE, UPDATE (source) ON ${pending}` },
    {
      what: sql`SELECT, INSERT, UPDATE (flushed_at, counts)
        ON ${sql.id(layout.pending_usage_witness, 'pending_usage_witness')}`,
    },
    ...(['set_aside_usage', 'refused_usage'] as const).map(table => ({
      what: sql`SELECT, INSERT, UPDATE, DELETE ON ${sql.id(layout[table], table)}`,
    })),
    { what: sql`SELECT (id, last_used_at), UPDATE (last_used_at) ON ${workspaces}` },
    { what: sql`SELECT, INSERT, UPDATE (last_used_at) ON ${bySource}` },
    { what: sql`USAGE ON SCHEMA ${jobSchema}` },
    { what: sql`SELECT ON ALL TABLES IN SCHEMA ${jobSchema}` },
    ...tables
      .filter(({ writes }) => writes.length > 0)
      .map(({ name, writes }) => ({
        what: sql`${sql.raw(writes.join(', '))} ON ${sql.id(JOB_SCHEMA, name)}`,
      })),
    { what: sql`USAGE ON ALL SEQUENCES IN SCHEMA ${jobSchema}` },
    { what: sql`EXECUTE ON ALL FUNCTIONS IN SCHEMA ${jobSchema}` },
  ]
}

function readerPrivileges(layout: UsageLayout): Privilege[] {
  const views = ['workspace_activity', 'workspace_activity_by_source'] as const
  return [
    ...[...new Set(views.map(view => layout[view]))].map(usage),
    ...views.map(view => ({ what: sql`SELECT ON ${sql.id(layout[view], view)}` })),
    // The views call it as the reader. The host may have revoked EXECUTE from PUBLIC.
    {
      what: sql`EXECUTE ON FUNCTION ${sql.id(layout.workspace_activity, 'no_hidden_usage')}(name, regclass[])`,
    },
  ]
}

function usage(schema: string): Privilege {
  return { what: sql`USAGE ON SCHEMA ${sql.id(schema)}`, usageOf: schema }
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

async function assertRolesExist(connection: Connection, roles: string[]): Promise<void> {
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
