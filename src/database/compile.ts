import {
  DummyDriver,
  Kysely,
  PostgresAdapter,
  PostgresIntrospector,
  PostgresQueryCompiler,
  type RawBuilder,
} from 'kysely'
import { type Connection, execute, type Statement, type StatementResult } from './connection.ts'

/** It only compiles. It has no connection. */
export const COMPILER = new Kysely<never>({
  dialect: {
    createAdapter: () => new PostgresAdapter(),
    createDriver: () => new DummyDriver(),
    createIntrospector: db => new PostgresIntrospector(db),
    createQueryCompiler: () => new PostgresQueryCompiler(),
  },
})

/** The method of a connection that compiles its statements in a way of its own. */
export const COMPILE = Symbol('compile')

/** A connection on which the tables have other names, or that takes no parameters. */
interface OwnCompiler {
  [COMPILE]<Row>(statement: RawBuilder<Row>): Statement<Row>
}

/**
 * Turns a statement of Kysely's `sql` into text and values, so that it can run on any `Connection`. Identifiers
 * are quoted and values are parameters.
 */
export function compile<Row>(statement: RawBuilder<Row>): Statement<Row> {
  return statement.compile(COMPILER)
}

/** Runs a statement of Kysely's `sql`, compiled as the connection needs it. */
export async function executeSql<Row>(
  connection: Connection,
  statement: RawBuilder<Row>,
): Promise<StatementResult<Row>> {
  return await execute(
    connection,
    compilesItself(connection) ? connection[COMPILE](statement) : compile(statement),
  )
}

function compilesItself(connection: object): connection is OwnCompiler {
  return COMPILE in connection
}
