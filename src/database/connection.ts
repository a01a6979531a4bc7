import type { CompiledQuery, QueryExecutorProvider, RawBuilder } from 'kysely'
import { compiler } from './compile.ts'

/** What `pg`'s Pool and Client, PGlite and a pooled client inside a transaction have in common. */
export interface Queryable {
  query(
    text: string,
    values?: unknown[],
  ): Promise<{ rows: unknown[]; rowCount?: number | null; affectedRows?: number }>
}

/** The part of a `Kysely` instance or transaction that is used here; any database type fits. */
export interface KyselyExecutor extends QueryExecutorProvider {
  executeQuery<Row>(query: CompiledQuery<Row>): Promise<{ rows: Row[]; numAffectedRows?: bigint }>
}

/**
 * Where a statement runs: a `pg` Pool or Client, PGlite, or a `Kysely` instance or transaction. The caller owns it:
 * nothing here connects, ends or configures it, and inside a transaction the statement is part of it.
 */
export type Connection = Queryable | KyselyExecutor

/** The rows of a statement, and how many rows it inserted, updated or deleted (undefined if the driver won't say). */
export interface StatementResult<Row> {
  rows: Row[]
  affected: number | undefined
}

/** Compiles a statement and runs it as one round trip. Errors are the driver's own. */
export async function execute<Row>(
  connection: Connection,
  statement: RawBuilder<Row>,
): Promise<StatementResult<Row>> {
  const compiled = statement.compile(compiler)
  if ('executeQuery' in connection) {
    const { rows, numAffectedRows } = await connection.executeQuery(compiled)
    return { rows, affected: numAffectedRows === undefined ? undefined : Number(numAffectedRows) }
  }
  const { rows, rowCount, affectedRows } = await connection.query(compiled.sql, [...compiled.parameters])
  return { rows: rows as Row[], affected: rowCount ?? affectedRows }
}
