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

/** The value below which a share of the values lies, such as 0.99. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((one, other) => one - other)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN
}
