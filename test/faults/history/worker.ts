import { startFlushWorker } from '../../../src/worker/worker.ts'
import { openPool, pause, reportError, type Surroundings, silentLogger } from './surroundings.ts'

/**
 * Runs a flush worker until it shall end. The first one reaches the database through the proxy. If the database is away
 * at the start, it tries again, as a container that is started again does.
 */
export async function runWorker(surroundings: Surroundings): Promise<void> {
  const { number, database, proxied, report, signal } = surroundings
  const pool = openPool(number === 0 ? proxied : database, `worker ${number}`, 4)
  const listeners = pool.listenerCount('error')
  await report({ type: 'ready' })
  while (!signal.aborted) {
    try {
      const worker = await startFlushWorker({
        database: pool,
        logger: silentLogger,
        flushIntervalSeconds: 1,
        pollSeconds: 0.5,
        batchSize: 2_000,
        unknownAfterSeconds: 86_400,
        onFlush: ({ result }) => {
          if (result.flushed + result.held === 0 && !result.emptied) return
          const { flushed, held, emptied } = result
          void report({ type: 'flushed', marks: flushed, held, emptied })
        },
        onFailure: ({ error }) => void reportError(report, error),
      })
      await new Promise<void>(resolve => {
        if (signal.aborted) resolve()
        else signal.addEventListener('abort', () => resolve(), { once: true })
      })
      await worker.stop()
    } catch (error) {
      await reportError(report, error)
      await pause(500, signal)
    }
  }
  await report({ type: 'leaked listeners', count: pool.listenerCount('error') - listeners })
  await pool.end()
}
