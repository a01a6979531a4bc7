import type { Kysely } from 'kysely'
import { isDistributed } from '../database/distributed.ts'
import type { SchemaChange } from '../schema/exclusive.ts'
import { explainingRefusals } from '../schema/refusal.ts'
import { distribute } from './distribute.ts'
import { type Distribution, distributionOf } from './distribution.ts'
import { createShardProcedures } from './shard-procedures.ts'

/**
 * Distributes the tables, unless they are. What a flush calls is brought up to date in any case.
 *
 * @returns How they are distributed.
 * @throws {DistributionRefusedError} If something is in the way. Nothing was distributed then.
 * @throws {SchemaChangeRefusedError} If a lock is not free within 5 seconds. Nothing was distributed then.
 */
export async function distributeOnce({ logger, schema, locked }: SchemaChange): Promise<Distribution> {
  return await explainingRefusals(schema, () =>
    locked('refuse', async ({ transaction }) => {
      const isNew = !(await isDistributed(transaction))
      if (isNew) await distribute(transaction, schema)
      await createShardProcedures(transaction as unknown as Kysely<never>, schema)
      const distribution = (await distributionOf(transaction))!
      if (isNew) logger.info({ schema, ...distribution }, 'distributed the tables')
      return distribution
    }),
  )
}
