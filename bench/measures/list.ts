import type { Measure } from '../measure.ts'
import { flushing } from './flush.ts'
import { importing } from './import.ts'
import { jobs } from './jobs.ts'
import { mark } from './mark.ts'
import { replicas } from './replicas.ts'
import { trackerDelay } from './tracker-delay.ts'
import { trackerDistinct } from './tracker-distinct.ts'
import { trackerMemory } from './tracker-memory.ts'
import { trackerPeriod } from './tracker-period.ts'
import { trackerRepeats } from './tracker-repeats.ts'
import { wal } from './wal.ts'

/** All measures, in the order in which they run and are shown. */
export const MEASURES: readonly Measure[] = [
  mark,
  wal,
  jobs,
  replicas,
  flushing,
  trackerRepeats,
  trackerDistinct,
  trackerDelay,
  trackerMemory,
  trackerPeriod,
  importing,
]
