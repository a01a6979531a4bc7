import { sqlState } from '../database/sql-state.ts'
import { WorkspaceIdTypeError } from '../errors.ts'
import { oneOf } from '../options.ts'
import { WORKSPACE_ID_TYPES, type WorkspaceIdType } from '../workspace-id.ts'

/** The rule of the option `idType`. */
export const ID_TYPE_OPTION = oneOf(...WORKSPACE_ID_TYPES)

/**
 * SQL of one id, such as one of `unnest($1) AS marked (id)`: the id as the column has it. If the ids were sent
 * as another type, PostgreSQL refuses the statement instead of storing their text. It also gives the id the collation of
 * the column, so that a sort has the order of the index. The value of the column is NULL and is not read: it needs no
 * privilege.
 */
export function markedId(table: string, id = 'id'): string {
  return `coalesce(${id}, (NULL::${table}).workspace_id)`
}

/** The SQLSTATEs of ids that were sent as another type: datatype_mismatch, and a bigint that is no integer. */
const WRONG_TYPE = ['42804', '22003']

/**
 * Runs a statement that stores ids. If they were sent as another type than the database has, the error says so.
 *
 * @param ask Asks the database for its type. It is called after such an error only, and may fail: the transaction of the
 *   caller is aborted then, say.
 * @throws {WorkspaceIdTypeError} If the types differ.
 * @throws What `run` throws, in all other cases.
 */
export async function explainIdType<Result>(
  idType: WorkspaceIdType,
  ask: () => Promise<WorkspaceIdType>,
  run: () => Promise<Result>,
): Promise<Result> {
  try {
    return await run()
  } catch (error) {
    if (!WRONG_TYPE.includes(sqlState(error) ?? '')) throw error
    const databaseType = await ask().catch(() => null)
    // Then it is another error of the same kind, such as that of a trigger.
    if (databaseType === idType) throw error
    throw new WorkspaceIdTypeError(idType, databaseType, { cause: error })
  }
}
