import { type Connection, execute } from '../database/connection.ts'
import { hasCitus, isDistributed } from '../database/distributed.ts'

/**
 * Makes what a transaction creates stay on the coordinator, if there is Citus and the tables are not distributed. Citus
 * would create on all nodes what is to be distributed later, if at all, and fails with some of it.
 */
export async function leaveToCoordinator(transaction: Connection): Promise<void> {
  if (!(await hasCitus(transaction)) || (await isDistributed(transaction))) return
  await execute(transaction, { sql: 'SET LOCAL citus.enable_ddl_propagation = off', parameters: [] })
}
