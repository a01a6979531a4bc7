import type { Connection } from '../database/connection.ts'
import type { Logger } from '../logger.ts'
import { flushSchedule } from './schedule.ts'

/** What one worker knows of the interval: its own option, and what the schedule says. */
export class IntervalInForce {
  readonly #queue: string
  readonly #own: number
  readonly #logger: Logger
  #told: number

  /** @param own The option of this worker, in seconds. */
  constructor(queue: string, own: number, logger: Logger) {
    this.#queue = queue
    this.#own = own
    this.#told = own
    this.#logger = logger
  }

  /** Tells if this worker, which is about to set the schedule, replaces another interval. */
  async tellReplaced(connection: Connection): Promise<void> {
    const before = (await flushSchedule(connection, this.#queue))?.intervalSeconds ?? this.#own
    if (before === this.#own) return
    this.#logger.info(
      { flushIntervalSeconds: this.#own, before },
      'this worker sets another flush interval for all workers',
    )
  }

  /** Returns the interval of the schedule, in seconds. It tells once if that is not the option of this worker. */
  async seconds(connection: Connection): Promise<number> {
    const inForce = (await flushSchedule(connection, this.#queue))?.intervalSeconds ?? this.#own
    if (inForce !== this.#told) this.#tell(inForce)
    this.#told = inForce
    return inForce
  }

  #tell(inForce: number): void {
    const fields = { flushIntervalSeconds: this.#own, inForce }
    if (inForce === this.#own)
      this.#logger.info(fields, 'the flush interval of this worker is in force again')
    else
      this.#logger.warn(
        fields,
        'another flush interval is in force: the worker that started last has set it for all workers',
      )
  }
}
