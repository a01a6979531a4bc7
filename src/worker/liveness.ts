import type { Clock } from './clock.ts'
import { endsWithin } from './ends-within.ts'

/** Whether a worker works, see {@link FlushWorker.liveness}. */
export interface Liveness {
  alive: boolean
  /** Why it is not alive, in one sentence without the full stop. Null if it is. */
  reason: string | null
}

/** The longest wait for the database's answer, in ms. */
const ANSWER_MS = 3_000

/** What pg-boss tells of a loop. Times are milliseconds since 1970. (With its own type, our types would need pg-boss's.) */
interface Loop {
  name: string
  state: string
  createdOn: number
  lastFetchedOn: number | null
  lastJobEndedOn: number | null
  lastErrorOn: number | null
}

/** What is looked at. */
export interface LifeSigns {
  boss: { getWipData(): Loop[] }
  queue: string
  connections: { query(text: string): Promise<unknown> }
  clock: Pick<Clock, 'now'>
  /** How long one turn of the loop may take: the wait for the poll, the question for a job, and the job. */
  turnSeconds: number
}

/** Looks at one worker. It is not alive if its loop does not turn, or if the database does not answer. */
export class Life {
  readonly #signs: LifeSigns
  /** Of the questions that are asked while the database is silent, one takes a connection. */
  #asking: Promise<unknown> | undefined

  constructor(signs: LifeSigns) {
    this.#signs = signs
  }

  /** Takes at most three seconds, and never rejects. */
  async look(): Promise<Liveness> {
    const reason = this.#stoodStill() ?? (await this.#noAnswer())
    return { alive: reason === null, reason }
  }

  /** pg-boss notes each question for jobs that was answered, and each that failed. */
  #stoodStill(): string | null {
    const { boss, queue, clock, turnSeconds } = this.#signs
    const loop = boss.getWipData().find(({ name }) => name === queue)
    if (loop === undefined || loop.state !== 'active') return 'the loop that takes flush jobs has ended'
    const turned = Math.max(
      loop.createdOn,
      loop.lastFetchedOn ?? 0,
      loop.lastJobEndedOn ?? 0,
      loop.lastErrorOn ?? 0,
    )
    const seconds = Math.round((clock.now() - turned) / 1_000)
    if (seconds <= turnSeconds) return null
    return `the loop that takes flush jobs has not turned for ${seconds} seconds`
  }

  async #noAnswer(): Promise<string | null> {
    this.#asking ??= this.#signs.connections.query('SELECT 1').finally(() => {
      this.#asking = undefined
    })
    try {
      if (await endsWithin(this.#asking, ANSWER_MS)) return null
    } catch (error) {
      return `the database does not answer: ${error instanceof Error ? error.message : String(error)}`
    }
    const seconds = ANSWER_MS / 1_000
    return `the database did not answer within ${seconds} seconds, or the pool gave no connection`
  }
}
