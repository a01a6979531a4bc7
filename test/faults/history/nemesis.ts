import pg from 'pg'
import type { BadNetwork } from './bad-network.ts'
import { FAULT_KINDS, type Fault, type FaultKind, planFaults } from './fault-plan.ts'
import type { HistoryLog } from './log.ts'
import type { Processes } from './processes.ts'
import type { Stage } from './server.ts'
import { pause } from './surroundings.ts'
import type { Universe } from './universe.ts'

/** What the nemesis can hurt. */
export interface Victims {
  stage: Stage
  processes: Processes
  proxy: BadNetwork
  log: HistoryLog
  universe: Universe
}

/** How often each fault hit somebody. */
export type FaultCounts = Record<FaultKind, number>

/** Injects faults, one after the other, until it shall end. Those that last in the background end with it. */
export class Nemesis {
  readonly counts = Object.fromEntries(FAULT_KINDS.map(kind => [kind, 0])) as FaultCounts
  readonly #victims: Victims
  readonly #signal: AbortSignal
  readonly #background = new Set<Promise<void>>()

  constructor(victims: Victims, signal: AbortSignal) {
    this.#victims = victims
    this.#signal = signal
  }

  async run(seed: number, options: { crash: boolean }): Promise<void> {
    for (const fault of planFaults(seed, options)) {
      await pause(fault.pauseMs, this.#signal)
      if (this.#signal.aborted) break
      try {
        if (await this.#inject(fault)) this.counts[fault.kind]++
      } catch (error) {
        // A fault may meet another one, such as a backend that is gone. A server that does not come back is none.
        if (fault.kind.includes('server') || fault.kind.includes('postmaster')) throw error
      }
    }
    await Promise.all(this.#background)
  }

  /** @returns whether it hit somebody */
  async #inject(fault: Fault): Promise<boolean> {
    const { processes, proxy } = this.#victims
    switch (fault.kind) {
      case 'kill a backend':
        return await this.#toBackend(fault, ANY, 'SELECT pg_terminate_backend($1)')
      case 'kill a backend that flushes':
        return await this.#toBackend(fault, THAT_FLUSHES, 'SELECT pg_terminate_backend($1)')
      case 'kill a worker':
        return processes.signal('worker', fault.victim, 'SIGKILL') !== undefined
      case 'kill a writer':
        return processes.signal('writer', fault.victim, 'SIGKILL') !== undefined
      case 'kill a host':
        return processes.signal('host', fault.victim, 'SIGKILL') !== undefined
      case 'stop a worker': {
        const stopped = processes.signal('worker', fault.victim, 'SIGSTOP')
        await pause(fault.lastsMs, this.#signal)
        return stopped?.kill('SIGCONT') ?? false
      }
      case 'stop a backend':
        return await this.#stopBackend(fault)
      case 'cut the network':
        proxy.cut()
        return true
      case 'stall the network':
        return await this.#disturb(fault, () => proxy.stall())
      case 'silence the network':
        return await this.#disturb(fault, () => proxy.silence())
      case 'restart the server':
        await this.#victims.stage.server.restart()
        return true
      case 'hold a snapshot':
        return this.#hold(fault, 'SELECT count(*) FROM workspace_activity')
      case 'lock workspaces':
        return this.#hold(fault, `SELECT FROM workspaces ORDER BY id LIMIT 500 FOR UPDATE SKIP LOCKED`)
      case 'crash the server':
        return await this.#crash(() => this.#victims.stage.server.crash())
      case 'kill the postmaster':
        return await this.#crash(() => this.#killPostmaster())
    }
  }

  async #disturb({ lastsMs }: Fault, disturb: () => void): Promise<boolean> {
    const { proxy } = this.#victims
    disturb()
    await pause(lastsMs, this.#signal)
    proxy.heal()
    return true
  }

  /** Looks for a backend for half a second, because most flushes are short. */
  async #toBackend({ victim }: Fault, which: string, statement: string): Promise<boolean> {
    return await this.#withClient(async client => {
      const pid = await this.#findBackend(client, which, victim)
      if (pid !== undefined) await client.query(statement, [pid])
      return pid !== undefined
    })
  }

  async #findBackend(client: pg.Client, which: string, victim: number): Promise<number | undefined> {
    const deadline = performance.now() + 500
    do {
      const { rows } = await client.query<{ pid: number }>(
        `SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'history %' AND ${which} ORDER BY pid`,
      )
      if (rows.length > 0) return rows[Math.floor(victim * rows.length)]!.pid
      await pause(2, this.#signal)
    } while (performance.now() < deadline && !this.#signal.aborted)
    return undefined
  }

  async #stopBackend({ victim, lastsMs }: Fault): Promise<boolean> {
    return await this.#withClient(async client => {
      const pid = await this.#findBackend(client, victim < 0.5 ? THAT_FLUSHES : ANY, victim)
      if (pid === undefined) return false
      process.kill(pid, 'SIGSTOP')
      try {
        await pause(lastsMs, this.#signal)
      } finally {
        process.kill(pid, 'SIGCONT')
      }
      return true
    })
  }

  /** Keeps a transaction open, while other faults go on. */
  #hold({ lastsMs }: Fault, statement: string): boolean {
    const held = this.#withClient(async client => {
      await client.query('BEGIN ISOLATION LEVEL REPEATABLE READ')
      await client.query(statement)
      await pause(2 * lastsMs, this.#signal)
      await client.query('ROLLBACK')
    }).catch(() => {})
    this.#background.add(held)
    void held.then(() => this.#background.delete(held))
    return true
  }

  async #crash(crash: () => Promise<void>): Promise<boolean> {
    const { log, universe } = this.#victims
    const since = Date.now()
    await this.#withClient(client => client.query(`${FORGET_FLUSHED}; ${KEEP_FLUSHED}`))
    const from = Date.now()
    await crash()
    log.crashes.push({ from, to: Date.now() })
    await this.#withClient(async client => {
      const { rows } = await client.query<{ id: string }>(LOST_FLUSHED)
      log.flushedAndLost += rows.filter(
        ({ id }) => !log.mayBeDeletedSince(universe.numberOf(id), since),
      ).length
      await this.#untilReported(client)
    })
    return true
  }

  /** Two crashes without a flush between them would be one loss. */
  async #untilReported(client: pg.Client): Promise<void> {
    const { crashes } = this.#victims.log
    const deadline = performance.now() + 30_000
    while (performance.now() < deadline && !this.#signal.aborted) {
      const { rows } = await client.query<{ resets: number }>(
        'SELECT count(*)::int AS resets FROM pending_usage_reset',
      )
      if (rows[0]!.resets >= crashes.length) return
      await pause(50, this.#signal)
    }
  }

  async #killPostmaster(): Promise<void> {
    const { server } = this.#victims.stage
    const { readFile } = await import('node:fs/promises')
    const pid = Number((await readFile(`${server.dataDirectory}/postmaster.pid`, 'utf8')).split('\n')[0])
    process.kill(pid, 'SIGKILL')
    // The backends notice that it is gone, and end. Before that no other server starts on this data.
    for (;;) {
      try {
        return await server.startUp()
      } catch (error) {
        if (this.#signal.aborted) throw error
        await pause(100, this.#signal)
      }
    }
  }

  async #withClient<T>(body: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = new pg.Client({
      connectionString: this.#victims.stage.admin,
      application_name: 'check: nemesis',
    })
    client.on('error', () => {})
    await client.connect()
    try {
      return await body(client)
    } finally {
      await client.end().catch(() => {})
    }
  }
}

const ANY = 'true'
const THAT_FLUSHES = `state = 'active' AND query LIKE '%pending_usage%'
  AND (application_name LIKE 'history worker%' OR application_name LIKE 'history flush%')`

const FORGET_FLUSHED = 'DROP TABLE IF EXISTS flushed_before'
const LAST_USES = `SELECT workspace_id, source, max(last_used_at) AS last_used_at FROM workspace_usage
  GROUP BY workspace_id, source`
const KEEP_FLUSHED = `CREATE TABLE flushed_before AS ${LAST_USES}`
const LOST_FLUSHED = `SELECT DISTINCT b.workspace_id AS id FROM flushed_before b
  LEFT JOIN (${LAST_USES}) u USING (workspace_id, source)
  WHERE u.last_used_at IS NULL OR u.last_used_at < b.last_used_at`
