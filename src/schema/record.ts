import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { InvalidOptionError } from '../errors.ts'
import { RECORD_COMMENT, RECORD_TABLE } from './record-names.ts'

export { RECORD_TABLE }

/*
 * Which migrations have run is recorded twice: as rows, which Kysely reads, and in the comment of their table. A dump of
 * the schema alone (`pg_dump -s`) has no rows, but it has the comment. Where the rows are missing, they are put back.
 */

/** Kysely creates it beside the record. Its row is the lock of migrations. */
export const RECORD_LOCK_TABLE = `${RECORD_TABLE}_lock`

/** How to recognise a schema whose record has neither rows nor comment. Releases since then write the comment. */
const OBJECTS_BEFORE_COMMENTS = [
  {
    migration: '0001_pending_usage',
    exists: sql`to_regclass(format('%I.pending_usage', schema)) IS NOT NULL`,
  },
  {
    migration: '0002_workspace_usage',
    exists: sql`to_regclass(format('%I.workspace_usage', schema)) IS NOT NULL`,
  },
  {
    migration: '0003_workspace_activity',
    exists: sql`to_regclass(format('%I.workspace_activity', schema)) IS NOT NULL`,
  },
  {
    migration: '0004_usage_period',
    exists: sql`to_regprocedure(format('%I.usage_period()', schema)) IS NOT NULL`,
  },
]

/**
 * The schema of this package: where `search_path` finds the record of migrations, or else the marks. If there is
 * neither, it is the schema in which `search_path` creates tables.
 *
 * @throws {InvalidOptionError} If `search_path` names no schema that exists.
 */
export async function usageSchema(connection: Connection): Promise<string> {
  const { rows } = await execute(
    connection,
    compile(sql<{ schema: string | null; search_path: string }>`
      SELECT current_setting('search_path') AS search_path, coalesce(
        (SELECT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE c.oid = coalesce(to_regclass(${RECORD_TABLE}), to_regclass('pending_usage'))),
        current_schema()
      )::text AS schema`),
  )
  const { schema, search_path: searchPath } = rows[0]!
  if (schema === null) {
    throw new InvalidOptionError('search_path', searchPath, 'a path with a schema that exists')
  }
  return schema
}

/**
 * Puts the rows of the record back if they are missing.
 *
 * @returns The migrations that were found. Empty if the record has rows, or nothing is migrated.
 */
export async function restoreRecord(transaction: Connection, schema: string): Promise<string[]> {
  const record = sql.id(schema, RECORD_TABLE)
  const { rows } = await execute(
    transaction,
    compile(sql<{ recorded: boolean; comment: string | null }>`
      SELECT to_regclass(format('%I.%I', ${schema}::text, ${RECORD_TABLE}::text)) IS NOT NULL AS recorded,
        obj_description(to_regclass(format('%I.%I', ${schema}::text, ${RECORD_TABLE}::text)), 'pg_class') AS comment`),
  )
  const { recorded, comment } = rows[0]!
  if (recorded) {
    const present = await execute(transaction, compile(sql`SELECT FROM ${record} LIMIT 1`))
    if (present.rows.length > 0) return []
  }
  const found = comment?.startsWith(RECORD_COMMENT)
    ? comment.slice(RECORD_COMMENT.length).split(', ')
    : await migrationsByObjects(transaction, schema)
  const names = found.filter(name => name !== '')
  if (names.length === 0) return []
  // The columns are those that Kysely would create.
  await execute(
    transaction,
    compile(sql`
      CREATE TABLE IF NOT EXISTS ${record} (
        name varchar(255) NOT NULL PRIMARY KEY, timestamp varchar(255) NOT NULL
      )`),
  )
  await execute(
    transaction,
    compile(sql`
      INSERT INTO ${record} (name, timestamp)
      SELECT name, ${new Date().toISOString()}::text FROM unnest(${names}::text[]) AS name`),
  )
  // Without the witness, the next flush would say that marks were lost. In a new database none were.
  await execute(
    transaction,
    compile(
      sql`INSERT INTO ${sql.id(schema, 'pending_usage_witness')} DEFAULT VALUES ON CONFLICT DO NOTHING`,
    ),
  )
  return names
}

/**
 * Whether anything is recorded or was put back. False where this package is not.
 */
export async function isRecorded(transaction: Connection, schema: string): Promise<boolean> {
  await restoreRecord(transaction, schema)
  const { rows } = await execute(
    transaction,
    compile(
      sql`SELECT WHERE to_regclass(format('%I.%I', ${schema}::text, ${RECORD_TABLE}::text)) IS NOT NULL`,
    ),
  )
  return rows.length > 0
}

/** Writes the migrations that have run into the comment of the record. */
export async function commentRecord(transaction: Connection, schema: string): Promise<void> {
  const record = sql.id(schema, RECORD_TABLE)
  const { rows } = await execute(
    transaction,
    compile(sql<{ names: string; comment: string | null }>`
      SELECT coalesce(string_agg(name, ', ' ORDER BY name COLLATE "C"), '') AS names,
        obj_description(to_regclass(format('%I.%I', ${schema}::text, ${RECORD_TABLE}::text)), 'pg_class') AS comment
      FROM ${record}`),
  )
  const { names, comment } = rows[0]!
  if (comment === RECORD_COMMENT + names) return
  await execute(transaction, compile(sql`COMMENT ON TABLE ${record} IS ${sql.lit(RECORD_COMMENT + names)}`))
}

async function migrationsByObjects(connection: Connection, schema: string): Promise<string[]> {
  const probes = OBJECTS_BEFORE_COMMENTS.map(
    ({ migration, exists }) => sql`SELECT ${migration}::text AS name WHERE ${exists}`,
  )
  const { rows } = await execute(
    connection,
    compile(sql<{ name: string }>`
      SELECT found.name FROM (SELECT ${schema}::text AS schema) AS place
      CROSS JOIN LATERAL (${sql.join(probes, sql` UNION ALL `)}) AS found`),
  )
  return rows.map(({ name }) => name)
}
