import type { Measure } from '../measure.ts'
import { applicationLatency } from './application-latency.ts'
import { byWorkspace } from './by-workspace.ts'
import { commandLine } from './command-line.ts'
import { flushing } from './flush.ts'
import { flushMillion } from './flush-million.ts'
import { idleReport } from './idle-report.ts'
import { idleWorker } from './idle-worker.ts'
import { importing } from './import.ts'
import { jobs } from './jobs.ts'
import { lookup } from './lookup.ts'
import { mark } from './mark.ts'
import { markLatency } from './mark-latency.ts'
import { redisSet } from './redis.ts'
import { replicas } from './replicas.ts'
import { scaleOut } from './scale-out.ts'
import { sizing } from './sizing.ts'
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
  redisSet,
  replicas,
  flushing,
  byWorkspace,
  applicationLatency,
  markLatency,
  trackerRepeats,
  trackerDistinct,
  trackerDelay,
  trackerMemory,
  trackerPeriod,
  lookup,
  idleReport,
  commandLine,
  importing,
  flushMillion,
  scaleOut,
  idleWorker,
  sizing,
]
