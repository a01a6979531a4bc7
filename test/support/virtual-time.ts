/** A clock that moves only when it is told. It replaces `performance.now` and `setTimeout` of this process. */
export class VirtualTime implements Disposable {
  now = 0
  #timers: { at: number; run: () => void }[] = []
  readonly #restore: () => void

  constructor() {
    const { setTimeout, clearTimeout } = globalThis
    const { now } = performance
    this.#restore = () => {
      Object.assign(globalThis, { setTimeout, clearTimeout })
      Object.assign(performance, { now })
    }
    Object.assign(globalThis, {
      setTimeout: (run: () => void, delay: number) => this.after(delay, run),
      clearTimeout: (timer: unknown) => {
        this.#timers = this.#timers.filter(other => other !== timer)
      },
    })
    Object.assign(performance, { now: () => this.now })
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

  [Symbol.dispose](): void {
    this.#restore()
  }
}

/** Runs all microtasks there are. */
function settle(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
