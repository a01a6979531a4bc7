import { readdir } from 'node:fs/promises'
import type { Connection } from '../database/connection.ts'
import { MIGRATION_FOLDER, RECORD_COMMENT, RECORD_TABLE } from '../schema/record-names.ts'
import { ask } from './check.ts'

/** The names of the migrations that this package has. */
export async function shippedMigrations(): Promise<string[]> {
  const files = await readdir(MIGRATION_FOLDER)
  const names = files.flatMap(file => /^(\d{4}_\w+)\.[jt]s$/.exec(file)?.[1] ?? [])
  return [...new Set(names)].sort()
}

/**
 * The names of the migrations that have run. The comment of the record tells them as well, and any role may read it.
 * Null if neither can be read.
 */
export async function recordedMigrations(db: Connection, schema: string): Promise<string[] | null> {
  const [record] = await ask<{ readable: boolean; comment: string | null; name: string }>(
    db,
    `SELECT pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS readable,
      pg_catalog.obj_description(c.oid, 'pg_class') AS comment,
      pg_catalog.format('%I.%I', n.nspname, c.relname) AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2`,
    [schema, RECORD_TABLE],
  )
  if (!record) return []
  if (record.readable) {
    // PostgreSQL itself has quoted the name.
    const rows = await ask<{ name: string }>(db, `SELECT name::text FROM ${record.name}`)
    if (rows.length > 0) return rows.map(({ name }) => name)
  }
  if (!record.comment?.startsWith(RECORD_COMMENT)) return record.readable ? [] : null
  return record.comment.slice(RECORD_COMMENT.length).split(', ')
}
