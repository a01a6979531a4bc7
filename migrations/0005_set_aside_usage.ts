import { type Kysely, sql } from 'kysely'
import { idType } from './0001_pending_usage.ts'

/*
 * Marks that a flush has looked at and could not settle leave the table of marks, so that the next flush does not have
 * to walk past them. They stay pending: set_aside_usage is a child of pending_usage, and whoever reads pending_usage
 * reads both. An INSERT into pending_usage goes to that table alone, and costs what it cost before.
 *
 * The reason is one of three. "held": another transaction had locked the workspace. "awaited": the workspace does not
 * exist, perhaps not yet, because its INSERT has not committed. "refused": PostgreSQL refuses the update of the
 * workspace, and refused_usage says why. Held and awaited marks are looked at again by every flush, those first that
 * have waited for longest. A refused workspace is tried again after a pause that doubles from failure to failure.
 *
 * Both tables are UNLOGGED, as pending_usage is. So they are lost together with it, and never disagree.
 */

export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  const setAside = sql.id(schema, 'set_aside_usage')
  const refused = sql.id(schema, 'refused_usage')
  const { column: id } = await idType(db, 'pending_usage', 'workspace_id')
  await sql`
    CREATE UNLOGGED TABLE ${setAside} (
      reason text NOT NULL,
      next_attempt_at timestamptz NOT NULL,
      CONSTRAINT set_aside_usage_pkey PRIMARY KEY (period_end, workspace_id, source),
      CONSTRAINT set_aside_usage_reason CHECK (reason IN ('held', 'awaited', 'refused'))
    ) INHERITS (${sql.id(schema, 'pending_usage')}) WITH (
      autovacuum_vacuum_threshold = 1000,
      autovacuum_vacuum_scale_factor = 0.0,
      autovacuum_vacuum_insert_threshold = -1,
      autovacuum_vacuum_cost_delay = 0,
      vacuum_truncate = off
    )
  `.execute(db)
  await sql`
    CREATE INDEX set_aside_usage_next_attempt ON ${setAside} (next_attempt_at) WHERE reason <> 'refused'
  `.execute(db)
  await sql`
    CREATE INDEX set_aside_usage_refused ON ${setAside} (workspace_id) WHERE reason = 'refused'
  `.execute(db)
  await sql`
    COMMENT ON TABLE ${setAside} IS
      'Marks that a flush could not settle: held, awaited or refused. A child of pending_usage, so they are pending. Written by the flush only.'
  `.execute(db)

  await sql`
    CREATE UNLOGGED TABLE ${refused} (
      workspace_id ${id} CONSTRAINT refused_usage_pkey PRIMARY KEY,
      since timestamptz NOT NULL,
      attempts integer NOT NULL,
      sqlstate text,
      message text NOT NULL,
      next_attempt_at timestamptz NOT NULL
    )
  `.execute(db)
  await sql`CREATE INDEX refused_usage_next_attempt ON ${refused} (next_attempt_at)`.execute(db)
  await sql`
    COMMENT ON TABLE ${refused} IS
      'Workspaces whose update PostgreSQL refuses, and why. Their marks are set aside. The flush tries them again and removes what succeeds.'
  `.execute(db)

  await sql`
    ALTER TABLE ${sql.id(schema, 'pending_usage_witness')}
      ADD COLUMN flushed_at timestamptz, ADD COLUMN counts jsonb
  `.execute(db)
  await grantToWorkers(db, schema)
}

/** Marks that are set aside become pending as before. */
export async function down(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  const setAside = sql.id(schema, 'set_aside_usage')
  await sql`
    INSERT INTO ${sql.id(schema, 'pending_usage')} (period_end, workspace_id, source)
    SELECT period_end, workspace_id, source FROM ${setAside} ON CONFLICT DO NOTHING
  `.execute(db)
  await sql`DROP TABLE ${setAside}`.execute(db)
  await sql`DROP TABLE ${sql.id(schema, 'refused_usage')}`.execute(db)
  await sql`
    ALTER TABLE ${sql.id(schema, 'pending_usage_witness')} DROP COLUMN flushed_at, DROP COLUMN counts
  `.execute(db)
}

/** The schema of pending_usage. It may differ from the one in which search_path creates new objects. */
async function marksSchema(db: Kysely<never>): Promise<string> {
  const { rows } = await sql<{ schema: string }>`
    SELECT n.nspname AS schema
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.oid = 'pending_usage'::regclass
  `.execute(db)
  return rows[0]!.schema
}

/** Roles that may delete marks are workers. They must go on flushing after this migration. */
async function grantToWorkers(db: Kysely<never>, schema: string): Promise<void> {
  const { rows } = await sql<{ role: string }>`
    SELECT DISTINCT r.rolname AS role
    FROM pg_catalog.pg_class c
    CROSS JOIN LATERAL pg_catalog.aclexplode(c.relacl) AS granted
    JOIN pg_catalog.pg_roles r ON r.oid = granted.grantee
    WHERE c.oid = 'pending_usage'::regclass AND granted.privilege_type = 'DELETE' AND r.oid <> c.relowner
  `.execute(db)
  for (const { role } of rows) {
    const tables = sql.join([sql.id(schema, 'set_aside_usage'), sql.id(schema, 'refused_usage')])
    await sql`GRANT SELECT, INSERT, UPDATE, DELETE ON ${tables} TO ${sql.id(role)}`.execute(db)
    await sql`
      GRANT SELECT, UPDATE (flushed_at, counts) ON ${sql.id(schema, 'pending_usage_witness')} TO ${sql.id(role)}
    `.execute(db)
  }
}
