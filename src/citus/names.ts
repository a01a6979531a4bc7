import { type RawBuilder, sql } from 'kysely'
import { quoteIdentifier } from '../database/quote.ts'

/** SQL of one of our tables as a `regclass`, whatever `search_path` is. */
export function regclass(schema: string, table: string): RawBuilder<unknown> {
  return sql`${sql.lit(qualified(schema, table))}::pg_catalog.regclass`
}

/** A table as SQL writes it, with its schema. */
export function qualified(schema: string, table: string): string {
  return `${quoteIdentifier(schema)}.${quoteIdentifier(table)}`
}
