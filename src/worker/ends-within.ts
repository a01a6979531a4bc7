/**
 * Waits for the end of something, but not for ever.
 *
 * @returns Whether it has ended within `ms` milliseconds.
 * @throws What the promise rejects with in that time.
 */
export async function endsWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<boolean>()
  const timer = setTimeout(resolve, ms, false)
  return await Promise.race([promise.then(() => true), late]).finally(() => clearTimeout(timer))
}
