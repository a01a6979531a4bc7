import { setTimeout as delay } from 'node:timers/promises'
import { inspect } from 'node:util'

/** A condition that a test waited for was not met in time. */
export class DeadlineError extends Error {
  override readonly name = 'DeadlineError'
  readonly description: string
  /** The condition's last value, or the error it threw last. */
  readonly lastSeen: unknown

  constructor(description: string, timeoutMs: number, lastSeen: unknown) {
    super(`waited ${timeoutMs} ms until ${description}; last seen: ${inspect(lastSeen)}`)
    this.description = description
    this.lastSeen = lastSeen
  }
}

/** What `until` returns: an answer that is not falsy. */
export type Truthy<T> = Exclude<T, false | null | undefined | 0 | 0n | ''>

/**
 * Asks `question` again and again until `accept` takes the answer, and returns that answer. A question that throws is
 * asked again.
 * @param description ends the sentence "waited until …"
 * @param accept default: any truthy answer; falsy ones are never taken
 * @param timeoutMs default 10 s
 * @param intervalMs between an answer and the next question; default 10 ms
 * @throws DeadlineError
 */
export async function until<T>(
  description: string,
  question: () => Promise<T> | T,
  { accept = () => true, timeoutMs = 10_000, intervalMs = 10 }: UntilOptions<T> = {},
): Promise<Truthy<T>> {
  const deadline = performance.now() + timeoutMs
  for (;;) {
    let seen: unknown
    try {
      const answer = await question()
      if (answer && accept(answer as Truthy<T>)) return answer as Truthy<T>
      seen = answer
    } catch (error) {
      seen = error
    }
    if (performance.now() > deadline) throw new DeadlineError(description, timeoutMs, seen)
    await delay(intervalMs)
  }
}

/** See `until`. */
export interface UntilOptions<T> {
  accept?: (answer: Truthy<T>) => boolean
  timeoutMs?: number
  intervalMs?: number
}
