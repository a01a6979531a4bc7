import {
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type RawBuilder,
} from 'kysely'
import type { Statement } from './connection.ts'

/** A Kysely that only compiles. */
const compiler = new Kysely<never>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: db => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
})

/**
 * Turns what was written with Kysely's `sql` into text and values, to run on whatever connection the caller has, which
 * need not be Kysely's. Identifiers are quoted and values are parameters.
 */
export function compile<Row>(statement: RawBuilder<Row>): Statement<Row> {
  return statement.compile(compiler)
}
