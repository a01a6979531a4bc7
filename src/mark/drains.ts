interface Drain {
  /** The number of the batch that ends the wait, counted from the first batch of the tracker. */
  last: number
  resolve(): void
  reject(error: Error): void
}

/** Those who wait until what was marked before is stored. */
export class Drains {
  #batchesStored = 0
  #drains: Drain[] = []

  /** Resolves when so many more batches are stored. */
  wait(batches: number): Promise<void> {
    const last = this.#batchesStored + batches
    return new Promise((resolve, reject) => this.#drains.push({ last, resolve, reject }))
  }

  /** One more batch is stored. */
  countBatch(): void {
    this.#batchesStored++
    if (this.#drains.length === 0) return
    const isOver = ({ last }: Drain) => last <= this.#batchesStored
    for (const drain of this.#drains) if (isOver(drain)) drain.resolve()
    this.#drains = this.#drains.filter(drain => !isOver(drain))
  }

  /** All is stored, with fewer batches than it seemed. */
  resolveAll(): void {
    for (const drain of this.#drains.splice(0)) drain.resolve()
  }

  /** Nothing more is stored. */
  rejectAll(error: Error): void {
    for (const drain of this.#drains.splice(0)) drain.reject(error)
  }
}
