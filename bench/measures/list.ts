import type { Measure } from '../measure.ts'
import { importing } from './import.ts'

/** All measures, in the order in which they run and are shown. */
export const MEASURES: readonly Measure[] = [importing]
