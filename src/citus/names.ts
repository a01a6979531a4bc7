import { type RawBuilder, sql } from 'kysely'
import { qualified } from '../database/schema-path.ts'

/** SQL of one of our tables as a `regclass`, whatever `search_path` is. */
export function regclass(schema: string, table: string): RawBuilder<unknown> {
  return sql`${sql.lit(qualified(schema, table))}::pg_catalog.regclass`
}
