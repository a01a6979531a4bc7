import { EventEmitter } from 'node:events'
import type { Queryable } from '../../src/database/connection.ts'
import type { VirtualTime } from './virtual-time.ts'

/** What goes wrong with a statement: it is lost, it is stored but its answer is lost, it is refused, or nothing. */
export type Trouble = 'lost' | 'cut' | 'refused' | undefined

/** A statement as the server saw it. Times are milliseconds of virtual time. */
export interface Arrival {
  ids: ReadonlySet<string>
  sentAt: number
  /** When it was stored; undefined if it was not. */
  storedAt: number | undefined
  answeredAt: number | undefined
  /** Until when a tracker may take the ids for stored, according to the answer. */
  openUntil: number | undefined
}

/** A server in virtual time that has everything a tracker can notice of a real one, and nothing more. */
export class ModelServer extends EventEmitter implements Queryable {
  trouble: Trouble
  /** Milliseconds that a statement takes to arrive, and its answer to return. */
  latency = { there: 0, back: 0 }
  readonly arrivals: Arrival[] = []
  /** End of the last period that is stored of an id. A crash empties it. */
  readonly periodEnds = new Map<string, number>()
  readonly #time: VirtualTime
  readonly #periodMs: number
  readonly #told: ServerListener
  #starts = 0
  #underWay: (() => void) | undefined

  constructor(time: VirtualTime, periodMs: number, told: ServerListener) {
    super()
    this.#time = time
    this.#periodMs = periodMs
    this.#told = told
  }

  query(_text: string, values: unknown[] = []): Promise<{ rows: unknown[] }> {
    const ids = values.find(Array.isArray) as string[]
    const arrival: Arrival = {
      ids: new Set(ids),
      sentAt: this.#time.now,
      storedAt: undefined,
      answeredAt: undefined,
      openUntil: undefined,
    }
    this.arrivals.push(arrival)
    this.#told.sent(ids)
    return new Promise((resolve, reject) => {
      let open = true
      const fail = (error: Error) => {
        if (!open) return
        open = false
        this.#told.failed()
        reject(error)
      }
      this.#underWay = () => fail(new Error('Connection terminated unexpectedly'))
      this.#time.after(this.latency.there, () => {
        if (!open) return
        const trouble = this.trouble
        const answer = trouble === 'lost' || trouble === 'refused' ? undefined : this.#store(arrival)
        this.#time.after(this.latency.back, () => {
          if (!open) return
          if (trouble === 'lost')
            return fail(Object.assign(new Error(), { code: 'ECONNREFUSED', syscall: 'connect' }))
          if (trouble === 'refused') return fail(Object.assign(new Error(), { code: '42501' }))
          if (trouble === 'cut') return fail(new Error('Connection terminated unexpectedly'))
          open = false
          arrival.answeredAt = this.#time.now
          arrival.openUntil = arrival.sentAt + answer!.remaining_ms
          this.#told.answered(answer!)
          resolve({ rows: [{ ...answer, remaining_ms: String(answer!.remaining_ms) }] })
        })
      })
    })
  }

  /** Whether the server has had no crash and no failover since it gave this answer. */
  isCurrent(answer: Answer): boolean {
    return answer.period.endsWith(` ${this.#starts}`)
  }

  /** Crashes and is back at once. It loses what was stored and every connection. */
  crash(): void {
    this.#starts++
    this.periodEnds.clear()
    this.#underWay?.()
    this.#told.connectionBroke()
    this.emit('error', new Error('Connection terminated unexpectedly'))
  }

  /** Another server takes over, and has nothing of what was stored. A proxy keeps the connections. */
  failOver(): void {
    this.#starts++
    this.periodEnds.clear()
  }

  #store(arrival: Arrival): Answer {
    arrival.storedAt = this.#time.now
    const periodEnd = (Math.floor(this.#time.now / this.#periodMs) + 1) * this.#periodMs
    for (const id of arrival.ids) this.periodEnds.set(id, periodEnd)
    return { remaining_ms: periodEnd - this.#time.now, period: `${periodEnd} ${this.#starts}` }
  }
}

export interface Answer {
  remaining_ms: number
  period: string
}

/** Hears what a tracker learns, at the same time. */
export interface ServerListener {
  sent(ids: string[]): void
  answered(answer: Answer): void
  failed(): void
  connectionBroke(): void
}
