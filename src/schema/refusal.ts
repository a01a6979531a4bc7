import { sqlState } from '../database/sql-state.ts'
import { ObjectExistsError, SchemaChangeRefusedError, WorkspaceUsageError } from '../errors.ts'

/** The remedies, by SQLSTATE. */
const REMEDIES: Record<string, string> = {
  '42501': 'Connect as the role that ran `workspace-usage migrate`, or as a superuser.', // insufficient_privilege
  '2BP01': 'Drop what depends on it first.', // dependent_objects_still_exist
  '55P03': 'Stop the workers and the services that mark, then repeat.', // lock_not_available
}

/** duplicate_table, duplicate_function, duplicate_object, duplicate_column */
const EXISTS = ['42P07', '42723', '42710', '42701']

/**
 * Runs a change of the schema in one transaction, and names what PostgreSQL refuses, and the remedy.
 *
 * @throws {ObjectExistsError} If an object is there already that a migration creates.
 * @throws {SchemaChangeRefusedError} If PostgreSQL refuses anything else.
 */
export async function explainingRefusals<Result>(
  schema: string,
  change: () => Promise<Result>,
): Promise<Result> {
  try {
    return await change()
  } catch (error) {
    throw explain(error, schema)
  }
}

function explain(error: unknown, schema: string): unknown {
  if (error instanceof WorkspaceUsageError) return error
  const state = sqlState(error) ?? ''
  const { message, detail } = error as Error & { detail?: string }
  const reason = [message, detail].filter(part => part !== undefined).join(': ')
  if (EXISTS.includes(state)) return new ObjectExistsError(schema, reason, { cause: error })
  const remedy = REMEDIES[state]
  return remedy === undefined ? error : new SchemaChangeRefusedError(reason, remedy, { cause: error })
}
