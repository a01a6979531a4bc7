/** One measured row, and its comparison. */
export interface Measurement {
  measure: string
  result: string
  comparison: string
  /** The target in words. Left out if nothing was promised. */
  target?: string
  /** Whether the target is reached. */
  reached?: boolean
}

/**
 * Runs each subject once per round, and reverses the order after each round. So other work of the machine affects all
 * subjects alike. Returns the medians.
 */
export async function medians<Name extends string>(
  rounds: number,
  subjects: Record<Name, () => Promise<number> | number>,
): Promise<Record<Name, number>> {
  const names = Object.keys(subjects) as Name[]
  const results = new Map<Name, number[]>(names.map(name => [name, []]))
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 ? names.toReversed() : names) results.get(name)!.push(await subjects[name]())
  }
  return Object.fromEntries(names.map(name => [name, median(results.get(name)!)])) as Record<Name, number>
}

export function median(values: readonly number[]): number {
  return values.toSorted((one, other) => one - other)[Math.floor(values.length / 2)]!
}

/** How long something takes, in milliseconds. */
export async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now()
  await work()
  return performance.now() - started
}

/** Resolves after one turn of the event loop. Callers in the same turn share one promise. */
export function turn(): Promise<void> {
  next ??= new Promise(resolve =>
    setImmediate(() => {
      next = undefined
      resolve()
    }),
  )
  return next
}
let next: Promise<void> | undefined

export function ms(time: number): string {
  return `${time < 10 ? time.toFixed(1) : Math.round(time)} ms`
}

export function perSecond(rate: number): string {
  return rate > 1e6 ? `${(rate / 1e6).toFixed(1)} million/s` : `${Math.round(rate / 1_000)},000/s`
}
