import { type Kysely, sql } from 'kysely'
import { workerRoles } from './0008_sources_and_resets.ts'

/**
 * Workers may read `xmax` of `workspaces`, so that a flush updates at once what nobody has locked. A view has no such
 * column. Without the privilege a flush only costs more, so nothing is done where the table is of another owner.
 */
export async function up(db: Kysely<never>): Promise<void> {
  const { rows } = await sql`
    SELECT FROM pg_catalog.pg_class c
    WHERE c.oid = pg_catalog.to_regclass('workspaces') AND c.relkind = 'r' AND pg_catalog.pg_has_role(c.relowner, 'USAGE')
  `.execute(db)
  if (rows.length === 0) return
  for (const role of await workerRoles(db)) {
    await sql`GRANT SELECT (xmax) ON workspaces TO ${sql.id(role)}`.execute(db)
  }
}

/** Nothing: the privilege tells nobody anything, and `revoke` takes it back. */
export async function down(): Promise<void> {}
