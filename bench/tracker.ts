import pg from 'pg'
import { withBenchDatabase } from './database.ts'
import type { Measurement } from './measurement.ts'
import { measureDistinct } from './tracker/distinct.ts'
import { measureLoopDelay } from './tracker/loop-delay.ts'
import { measureMemory } from './tracker/memory.ts'
import { measurePeriodEnd } from './tracker/period-end.ts'
import { measureRepeats } from './tracker/repeats.ts'

/**
 * Measures what a tracker costs its process and the database. Each measure stands beside its comparison. The figures
 * are medians of alternating runs.
 *
 * @param server Connection string of a server on which a database may be created. It is dropped afterwards.
 * @param progress Called before each measure.
 */
export function measureTracker(server: string, progress: (step: string) => void): Promise<Measurement[]> {
  return withBenchDatabase(server, async connectionString => {
    const pool = new pg.Pool({ connectionString, max: 8, application_name: 'bench' })
    // The database is dropped while the last connections are still closing.
    pool.on('error', () => {})
    try {
      const measurements: Measurement[] = []
      progress('repeats of hot ids')
      measurements.push(...(await measureRepeats(pool)))
      progress('distinct ids')
      measurements.push(await measureDistinct(pool))
      progress('the end of a period')
      measurements.push(await measurePeriodEnd(pool))
      progress('memory')
      measurements.push(await measureMemory())
      progress('event-loop delay')
      measurements.push(await measureLoopDelay(pool))
      return measurements
    } finally {
      await pool.end()
    }
  })
}
