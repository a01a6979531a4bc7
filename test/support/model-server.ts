import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { Queryable } from '../../src/database/connection.ts'
import type { ConnectionPool, PooledClient } from '../../src/database/pool.ts'
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
  /** Trouble and latency of every second statement, if they are others. */
  second: { trouble: Trouble; latency: { there: number; back: number } } | undefined
  readonly arrivals: Arrival[] = []
  /** End of the last period that is stored of an id. A crash empties it. */
  readonly periodEnds = new Map<string, number>()
  readonly #time: VirtualTime
  readonly #periodMs: number
  readonly #told: ServerListener
  #starts = 0
  /** What fails each statement under way. */
  readonly #underWay = new Set<() => void>()
  /** Those of them that are stored, and will be answered without trouble. */
  readonly #answering = new Set<() => void>()

  constructor(time: VirtualTime, periodMs: number, told: ServerListener) {
    super()
    this.#time = time
    this.#periodMs = periodMs
    this.#told = told
  }

  query(_text: string, values: unknown[] = []): Promise<{ rows: unknown[] }> {
    const number = this.#told.begun()
    return this.#run(number, values)
  }

  /** The same server, over as many connections as one likes. A statement begins with the connection for it. */
  asPool(): ConnectionPool {
    const connect = (callback: (error: undefined, client: PooledClient) => void) => {
      const number = this.#told.begun()
      const client = Object.assign(new EventEmitter(), {
        query: (_text: string, values: unknown[] = []) => this.#run(number, values),
        release() {},
      })
      callback(undefined, client as unknown as PooledClient)
    }
    const pool = {
      totalCount: 0,
      connect,
      query: () => assert.fail('a tracker takes a client'),
      on: (event: string, listener: () => void) => this.on(event, listener),
      removeListener: (event: string, listener: () => void) => this.removeListener(event, listener),
    }
    return pool as unknown as ConnectionPool
  }

  #run(number: number, values: unknown[]): Promise<{ rows: unknown[] }> {
    const ids = values.find(Array.isArray) as string[]
    const arrival: Arrival = {
      ids: new Set(ids),
      sentAt: this.#time.now,
      storedAt: undefined,
      answeredAt: undefined,
      openUntil: undefined,
    }
    this.arrivals.push(arrival)
    this.#told.sent(number, ids)
    return new Promise((resolve, reject) => {
      let open = true
      const end = () => {
        open = false
        this.#underWay.delete(cut)
        this.#answering.delete(cut)
      }
      const fail = (error: Error) => {
        if (!open) return
        end()
        this.#told.failed(number)
        reject(error)
      }
      const cut = () => fail(new Error('Connection terminated unexpectedly'))
      this.#underWay.add(cut)
      const own = number % 2 === 1 ? this.second : undefined
      const { there, back } = (own ?? this).latency
      this.#time.after(there, () => {
        if (!open) return
        const { trouble } = own ?? this
        const answer = trouble === 'lost' || trouble === 'refused' ? undefined : this.#store(arrival)
        if (trouble === undefined) this.#answering.add(cut)
        this.#time.after(back, () => {
          if (!open) return
          if (trouble === 'lost')
            return fail(Object.assign(new Error(), { code: 'ECONNREFUSED', syscall: 'connect' }))
          if (trouble === 'refused') return fail(Object.assign(new Error(), { code: '42501' }))
          if (trouble === 'cut') return cut()
          end()
          arrival.answeredAt = this.#time.now
          arrival.openUntil = arrival.sentAt + answer!.remaining_ms
          this.#told.answered(number, answer!)
          resolve({ rows: [asRow(answer!)] })
        })
      })
    })
  }

  /** Whether the server has had no crash and no failover since it gave this answer. */
  isCurrent(answer: Answer): boolean {
    return answer.server === this.#starts
  }

  /**
   * Crashes and is back at once. It loses what was stored and every connection.
   *
   * @param answersArrive Whether the answers that are on the way arrive nevertheless.
   */
  crash(answersArrive = false): void {
    this.#starts++
    this.periodEnds.clear()
    for (const cut of [...this.#underWay]) if (!(answersArrive && this.#answering.has(cut))) cut()
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
    return { remaining_ms: periodEnd - this.#time.now, period_end: periodEnd, server: this.#starts }
  }
}

/** What the server says of a statement that it has stored. */
export interface Answer {
  remaining_ms: number
  period_end: number
  server: number
}

/** As a driver gives it. */
function asRow({ remaining_ms, period_end, server }: Answer) {
  return { remaining_ms: String(remaining_ms), period_end: String(period_end), server: String(server) }
}

/** Hears what a tracker learns, at the same time. */
export interface ServerListener {
  /** The tracker begins a statement. Returns its number. */
  begun(): number
  sent(statement: number, ids: string[]): void
  answered(statement: number, answer: Answer): void
  failed(statement: number): void
  connectionBroke(): void
}
