import type { PgBoss } from 'pg-boss'
import type { Logger } from '../logger.ts'
import type { BoundedPool } from './bounded-pool.ts'
import { endsWithin } from './ends-within.ts'

/** Seconds of a stop after the longest flush, before it is done by force. */
const STOP_GRACE_SECONDS = 3

/** The longest wait for pg-boss once its connections are cut, in ms. */
const CUT_TIMEOUT_MS = 2_000

/**
 * Stops pg-boss after the flush that is running. If that takes too long, it cuts the connections and says so. It ends
 * in bounded time, and never rejects.
 *
 * @param flushSeconds The most seconds that a flush may take.
 */
export async function stopInTime(
  boss: Pick<PgBoss, 'stop'>,
  connections: Pick<BoundedPool, 'cut'>,
  flushSeconds: number,
  logger: Logger,
): Promise<void> {
  const stopping = boss
    .stop({ graceful: true, timeout: flushSeconds * 1_000 })
    .catch(error => logger.error({ err: error }, 'pg-boss did not stop as it should'))
  const afterSeconds = flushSeconds + STOP_GRACE_SECONDS
  if (await endsWithin(stopping, afterSeconds * 1_000)) return
  logger.error(
    { afterSeconds },
    'the worker did not stop in time; its connections are cut, and marks stay pending',
  )
  connections.cut()
  await endsWithin(stopping, CUT_TIMEOUT_MS)
}
