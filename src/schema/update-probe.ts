import { type Connection, execute, type Statement } from '../database/connection.ts'
import { isOfCitus } from '../database/distributed.ts'
import { sqlState } from '../database/sql-state.ts'

/** Why PostgreSQL can't do the update of a flush on the table `workspaces`, in its own words. */
export interface RefusedUpdate {
  sqlstate: string
  message: string
  /** Whether a publication is the reason. The host can change that at any time. */
  published: boolean
}

/**
 * An update like that of the flush. EXPLAIN plans and prepares it, and changes nothing: no trigger fires, and no row is
 * locked. The array is not known before it runs. So the planner can't leave out a partition.
 */
const PROBE: Statement<unknown> = {
  sql: `EXPLAIN WITH locked AS MATERIALIZED (
      SELECT id FROM workspaces WHERE id = ANY (ARRAY (SELECT id FROM workspaces WHERE random() < 0))
      FOR NO KEY UPDATE SKIP LOCKED
    ), updated AS (
      UPDATE workspaces SET last_used_at = statement_timestamp()
      WHERE id = ANY (ARRAY (SELECT id FROM locked))
      RETURNING id
    )
    SELECT count(*) FROM updated`,
  parameters: [],
}

/** The codes of a publication that does not fit the replica identity of the table: there is none, or a filter needs more. */
const PUBLISHED = ['55000', '42P10']

/** What says that the table is of a kind that can't be updated so. Other errors are of the moment, or of a role. */
const REFUSALS = [
  '0A000', // feature_not_supported: a rule in WITH, say
  '428C9', // generated_always
  '42809', // wrong_object_type: a table that takes no update
  ...PUBLISHED,
]

/**
 * Asks PostgreSQL whether it can do the update of a flush. Null if it can, or if this role may not ask. In a transaction
 * of the caller, a refusal aborts that transaction. A table of Citus is flushed shard by shard, each on its own node, so it is
 * not asked.
 */
export async function refusedUpdate(connection: Connection): Promise<RefusedUpdate | null> {
  if (await isOfCitus(connection, 'workspaces')) return null
  try {
    await execute(connection, PROBE)
    return null
  } catch (error) {
    const sqlstate = sqlState(error)
    if (sqlstate === '42501') return null
    if (!(error instanceof Error) || sqlstate === undefined || !REFUSALS.includes(sqlstate)) throw error
    const detail = 'detail' in error && typeof error.detail === 'string' ? `. ${error.detail}` : ''
    return {
      sqlstate,
      message: `${error.message}${detail}`.replace(/\.$/, ''),
      published: PUBLISHED.includes(sqlstate),
    }
  }
}
