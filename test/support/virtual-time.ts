/**
 * A clock that moves only when it is told. It replaces `performance.now`, `Date.now` and `setTimeout` of this process.
 */
export class VirtualTime implements Disposable {
  now = 0
  /** What `performance.now` has missed. */
  #slept = 0
  /** By how much `Date.now` is wrong. */
  #wallOffset = 0
  #timers: { at: number; run: () => void }[] = []
  readonly #restore: () => void

  constructor() {
    const { setTimeout, clearTimeout } = globalThis
    const { now } = performance
    const wallNow = Date.now
    this.#restore = () => {
      Object.assign(globalThis, { setTimeout, clearTimeout })
      Object.assign(performance, { now })
      Date.now = wallNow
    }
    Object.assign(globalThis, {
      setTimeout: (run: () => void, delay: number) => this.after(delay, run),
      clearTimeout: (timer: unknown) => {
        this.#timers = this.#timers.filter(other => other !== timer)
      },
    })
    Object.assign(performance, { now: () => this.now - this.#slept })
    Date.now = () => 1_000_000_000 + this.now + this.#wallOffset
  }

  /** Runs a function later. */
  after(delay: number, run: () => void): object {
    const timer = { at: this.now + delay, run, unref: () => timer }
    this.#timers.push(timer)
    return timer
  }

  /** Lets time pass. Each timer runs when it is due, and everything that it starts is done before the next. */
  async pass(duration: number): Promise<void> {
    const end = this.now + duration
    await settle()
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((one, other) => one.at - other.at)[0]
      if (next === undefined) break
      this.#timers = this.#timers.filter(timer => timer !== next)
      this.now = Math.max(this.now, next.at)
      next.run()
      await settle()
    }
    this.now = end
  }

  /** Lets time pass while nothing else can run, like a busy event loop. */
  block(duration: number): void {
    this.now += duration
  }

  /** Lets time pass while the machine sleeps: `performance.now` and all timers stand still. */
  sleep(duration: number): void {
    this.now += duration
    this.#slept += duration
    for (const timer of this.#timers) timer.at += duration
  }

  /** Somebody sets the wall clock forwards, or backwards if it is negative. No time passes. */
  setWallClock(by: number): void {
    this.#wallOffset += by
  }

  [Symbol.dispose](): void {
    this.#restore()
  }
}

/** Runs all microtasks there are. */
function settle(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
