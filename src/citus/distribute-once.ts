import { isDistributed } from '../database/distributed.ts'
import type { SchemaChange } from '../schema/exclusive.ts'
import { explainingRefusals } from '../schema/refusal.ts'
import { distribute } from './distribute.ts'
import { type Distribution, distributionOf } from './distribution.ts'

/**
 * Distributes the tables, unless they are.
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
      const distribution = (await distributionOf(transaction))!
      if (isNew) logger.info({ schema, ...distribution }, 'distributed the tables')
      return distribution
    }),
  )
}
