/**
 * pg-boss's clock, by its shape. With pg-boss's own type in a signature, whoever compiles against this package would
 * have to compile pg-boss's types as well, which need `@types/node`, `@types/pg` and `skipLibCheck`.
 */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number
  setTimeout(run: () => void, ms: number): unknown
  clearTimeout(timer: unknown): void
  setInterval(run: () => void, ms: number): unknown
  clearInterval(timer: unknown): void
}
