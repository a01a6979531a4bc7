import type { ConstructorOptions } from 'pg-boss'
import type { Connection } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'

/** What pg-boss has to know of the database. On a Citus cluster its tables stay on the coordinator. */
export async function bossBackend(connection: Connection): Promise<Pick<ConstructorOptions, 'backend'>> {
  return (await isDistributed(connection)) ? { backend: 'citus' } : {}
}
