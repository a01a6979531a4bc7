import { checkOption } from '../options.ts'
import { A_CONNECTION, type Connection } from './connection.ts'
import { A_SCHEMA, placedIn } from './schema-path.ts'

/**
 * Makes a connection that finds the tables of this package in a schema, whatever `search_path` is. Pass it to any
 * function of this package in place of the connection. It is the same connection: what you do with it yourself goes as
 * before, also the search for tables.
 *
 * The schema is set for each statement anew, so it works through a pooler that drops settings. A statement on its own
 * runs in a transaction that begins with the path: two more round trips, and on a connection that is no pool one or two
 * again. Marks name the table with its schema instead: they stay one statement and one round trip. Inside a transaction
 * of yours, the path is put back after each statement.
 *
 * The schema comes first in the path, and the path of the session stays behind it, because triggers of your table
 * `workspaces` may need it.
 *
 * @param connection A `pg` Pool or Client, PGlite, or a `Kysely` instance or transaction. The caller owns it.
 * @param schema The name as in `pg_namespace`, not quoted. It is checked when a statement runs: if it holds no
 *   `pending_usage`, that statement fails with `NotMigratedError`.
 * @throws {InvalidOptionError} If `connection` is none, or `schema` is no name of a schema.
 */
export function inSchema<Plain extends Connection>(connection: Plain, schema: string): Plain {
  checkOption('connection', connection, A_CONNECTION)
  checkOption('schema', schema, A_SCHEMA)
  return placedIn(connection, schema)
}
