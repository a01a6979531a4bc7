import { setTimeout as delay } from 'node:timers/promises'

/** Keeps a distance between stops. */
export class Pace {
  readonly #ms: number
  #next = 0

  /** @param perMinute How many may begin in a minute. */
  constructor(perMinute: number) {
    this.#ms = 60_000 / perMinute
  }

  /** Waits until the next one may begin. A signal that is aborted ends the wait. */
  async wait(signal: AbortSignal): Promise<void> {
    const left = this.#next - performance.now()
    if (left > 0) await delay(left, undefined, { signal }).catch(() => {})
  }

  /** One has begun. */
  begun(): void {
    this.#next = performance.now() + this.#ms
  }
}
