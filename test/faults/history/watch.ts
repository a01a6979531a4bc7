import pg from 'pg'

/** What was seen while somebody waited for a lock. */
export interface Waits {
  /** Of statements of a flush, on a tuple or on the end of a transaction: the application, or another flush. */
  flushOnRow: number
  /** Of statements of a flush, on another lock, such as the one with which the server extends a table. */
  flushOnOther: Record<string, number>
  /** Of other statements of a worker: those of pg-boss. */
  queue: Record<string, number>
  /** Looks at the server. */
  looks: number
  /** A few of the first kind. */
  examples: string[]
}

const INTERVAL_MS = 5

/** The tables of a flush. pg-boss's own statements name none of them. */
const OF_A_FLUSH = /pending_usage|set_aside_usage|refused_usage|workspaces|workspace_usage|source_usage/

interface Wait {
  pid: number
  since: string
  event: string
  query: string
  /** Who holds the lock, and the last statement of each. */
  blockers: string[]
}

/** Looks every few ms whether a flush waits for a lock. One wait counts once, however long it is. */
export class LockWatch {
  readonly waits: Waits = { flushOnRow: 0, flushOnOther: {}, queue: {}, looks: 0, examples: [] }
  readonly #connectionString: string
  readonly #seen = new Set<string>()
  #stopped = false
  #done: Promise<void> | undefined

  constructor(connectionString: string) {
    this.#connectionString = connectionString
  }

  start(): void {
    this.#done = this.#look()
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#done
  }

  async #look(): Promise<void> {
    while (!this.#stopped) {
      const client = new pg.Client({
        connectionString: this.#connectionString,
        application_name: 'check: watch',
      })
      client.on('error', () => {})
      try {
        await client.connect()
        await this.#lookWith(client)
      } catch {
        // The server restarts, or a fault has hit this connection.
        await pauseFor(50)
      }
      await client.end().catch(() => {})
    }
  }

  async #lookWith(client: pg.Client): Promise<void> {
    while (!this.#stopped) {
      const { rows } = await client.query<Wait>({
        name: 'waits',
        text: `SELECT pid, query_start::text AS since, wait_event AS event, query, ARRAY (
            SELECT application_name || ', ' || state || ': ' || left(query, 300)
            FROM pg_stat_activity WHERE pid = ANY (pg_blocking_pids(waiting.pid))
          ) AS blockers
          FROM pg_stat_activity AS waiting
          WHERE wait_event_type = 'Lock' AND (application_name LIKE 'history worker%' OR application_name LIKE 'history flush%')`,
      })
      this.waits.looks++
      for (const wait of rows) this.#count(wait)
      await pauseFor(INTERVAL_MS)
    }
  }

  #count({ pid, since, event, query, blockers }: Wait): void {
    const wait = `${pid} ${since} ${event}`
    if (this.#seen.has(wait)) return
    this.#seen.add(wait)
    const flushes = OF_A_FLUSH.test(query)
    if (flushes && (event === 'tuple' || event === 'transactionid')) {
      this.waits.flushOnRow++
      if (this.waits.examples.length < 3) {
        const because = blockers.map(blocker => `\n  because of ${blocker}`).join('')
        this.waits.examples.push(`${event}: ${query.slice(0, 4_000)}${because}`)
      }
    } else {
      const counts = flushes ? this.waits.flushOnOther : this.waits.queue
      counts[event] = (counts[event] ?? 0) + 1
    }
  }
}

function pauseFor(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
