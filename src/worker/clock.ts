/**
 * A copy of pg-boss's type for a clock. If a signature used pg-boss's own type, programs that use this package would
 * have to compile pg-boss's types. Those need `@types/node`, `@types/pg` and `skipLibCheck`.
 */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  setTimeout(run: () => void, ms: number): unknown
  clearTimeout(timer: unknown): void
  setInterval(run: () => void, ms: number): unknown
  clearInterval(timer: unknown): void
}
