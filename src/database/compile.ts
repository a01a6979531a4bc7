import {
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type RawBuilder,
} from 'kysely'
import type { Statement } from './connection.ts'

/** It only compiles. It has no connection. */
const compiler = new Kysely<never>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: db => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
})

/**
 * Turns a statement of Kysely's `sql` into text and values, so that it can run on any `Connection`. Identifiers
 * are quoted and values are parameters.
 */
export function compile<Row>(statement: RawBuilder<Row>): Statement<Row> {
  return statement.compile(compiler)
}
