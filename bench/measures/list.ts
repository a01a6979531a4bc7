import type { Measure } from '../measure.ts'
import { flushing } from './flush.ts'
import { importing } from './import.ts'
import { mark } from './mark.ts'
import { wal } from './wal.ts'

/** All measures, in the order in which they run and are shown. */
export const MEASURES: readonly Measure[] = [mark, wal, flushing, importing]
