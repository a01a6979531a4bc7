import { isMet, type Measure, type Program, type Result, type Stage } from './measure.ts'
import { findProgram, missing } from './support/programs.ts'

/** What became of one measure. */
export interface Outcome {
  name: string
  title: string
  /** How long it took, in seconds. */
  seconds: number
  /** What it found. Undefined if it was skipped, or failed. */
  result?: Result
  /** Why it was skipped. */
  skipped?: string
  /** What it threw, in words. */
  failed?: string
}

/** What a run of the suite needs from outside. */
export interface SuiteOptions {
  measures: readonly Measure[]
  stage: Omit<Stage, 'progress'>
  /** Called with each step of a measure, as it begins. `place` counts from 1. */
  onStep?: (measure: Measure, place: number, step: string) => void
  onOutcome?: (outcome: Outcome) => void
  /** Tells whether a program is there. Default: a look at PATH. */
  isThere?: (program: Program) => boolean
}

/** Runs the measures, one after the other. One that fails or is skipped does not keep the others from running. */
export async function runSuite(options: SuiteOptions): Promise<Outcome[]> {
  const { measures, onOutcome } = options
  const outcomes: Outcome[] = []
  for (const [index, measure] of measures.entries()) {
    const outcome = await outcomeOf(measure, index + 1, options)
    outcomes.push(outcome)
    onOutcome?.(outcome)
  }
  return outcomes
}

async function outcomeOf(
  measure: Measure,
  place: number,
  { stage, onStep, isThere = program => findProgram(program) !== undefined }: SuiteOptions,
): Promise<Outcome> {
  const { name, title, needs } = measure
  if (needs !== undefined && !isThere(needs)) return { name, title, seconds: 0, skipped: missing(needs) }
  const started = performance.now()
  const seconds = () => (performance.now() - started) / 1_000
  try {
    const progress = (step: string) => onStep?.(measure, place, step)
    const result = await measure.run({ ...stage, progress })
    const isEmpty = result.rows.length === 0 && result.skipped !== undefined
    if (isEmpty) return { name, title, seconds: seconds(), skipped: result.skipped! }
    return { name, title, seconds: seconds(), result }
  } catch (error) {
    return { name, title, seconds: seconds(), failed: inWords(error) }
  }
}

/** The exit code of a run: 1 if a measure failed, or if a target was missed and targets count. Else 0. */
export function exitCode(outcomes: readonly Outcome[], { judged }: { judged: boolean }): 0 | 1 {
  const isBad = ({ failed, result }: Outcome) =>
    failed !== undefined || (judged && result?.targets.some(target => !isMet(target)))
  return outcomes.some(isBad) ? 1 : 0
}

function inWords(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  // The place in our own files, so that a failure of a long run can be looked into without another run.
  const at = error.stack?.match(/bench\/[\w/.-]+:\d+/)?.[0]
  return at ? `${error.message} (${at})` : error.message
}
