/*
 * A program of a project that has neither `@types/pg` nor `@types/node`. It is only compiled, to show that the types
 * of the package need neither. Its connection is made by hand, like that of a wrapper.
 */

import * as usage from 'workspace-usage'
import type * as marking from 'workspace-usage/mark'

declare const connection: usage.Queryable

export const api: typeof usage = usage
export const tracker = new usage.UsageTracker(connection, { source: 'ssh' })
export const sameTracker: marking.UsageTracker = tracker
export const marked: Promise<usage.MarkResult> = usage.markUsage(connection, 'not checked by the compiler')
export const flushed: Promise<usage.FlushResult> = usage.flush(connection, { batchSize: 1_000 })

export async function work(database: string, logger: usage.Logger): Promise<void> {
  await usage.migrate({ connectionString: database, logger })
  const worker: usage.FlushWorker = await usage.startFlushWorker({ database, logger })
  await worker.stop()
}

// @ts-expect-error: an id is a string or a number. This would pass if the tracker were of type any.
tracker.mark(true)
// @ts-expect-error: a logger is no option of a flush.
usage.flush(connection, { logger: undefined })
// @ts-expect-error: neither a Kysely nor anything with a query method.
usage.drain({})
