import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { drain } from '../../../src/flush/drain.ts'
import { flush } from '../../../src/flush/flush.ts'
import { startBadNetwork } from './bad-network.ts'
import { judge, type Verdict } from './judge.ts'
import { HistoryLog } from './log.ts'
import type { Message, Part } from './messages.ts'
import { type FaultCounts, Nemesis } from './nemesis.ts'
import type { Options } from './options.ts'
import { Processes } from './processes.ts'
import { Random } from './random.ts'
import { readTables } from './read-tables.ts'
import { Reader, type Sightings } from './reader.ts'
import { prepareStage, type Stage } from './server.ts'
import { openPool, pause, reportError } from './surroundings.ts'
import { HOSTS, Universe, WORKERS, WRITERS } from './universe.ts'
import { LockWatch, type Waits } from './watch.ts'
import { runWriter } from './writer.ts'

/** All that a run counts. */
export interface Totals {
  postgres: string
  seconds: number
  workspaces: number
  marks: HistoryLog['counts']
  flushed: number
  flushes: number
  held: number
  operations: number
  faults: FaultCounts
  /** Errors of clients, by SQLSTATE. */
  errors: Record<string, number>
  errorTexts: Record<string, string>
  verdict: Verdict
  waits: Waits
  sightings: Sightings
  /** Errors with SQLSTATE 40P01 that a client saw, and what the server counted. The larger of both. */
  deadlocks: number
  unhandled: string[]
  leakedListeners: number
  leftConnections: string[]
  /** Marks that a tracker gave up at its end, or dropped. */
  notStored: number
  /** Marks that are left after the last drain. */
  leftPending: number
  failedProcesses: string[]
  resets: number
  crashes: number
  flushedAndLost: number
}

/** How long processes may take to end, in ms. A tracker may need 30 s for its last marks. */
const END_MS = 60_000

/** After this long beyond its minutes, a run says where it hangs, in ms. */
const STUCK_AFTER_MS = 200_000

/** Runs the whole check. */
export async function runCheck(options: Options, tell: (text: string) => void): Promise<Totals> {
  const seconds = options.minutes * 60
  const universe = new Universe(Math.max(3_000, Math.min(40_000, Math.round(seconds * 200))))
  const stage = await prepareStage(options.postgres, universe)
  const proxy = await startBadNetwork(stage.server.port)
  const check = new Check(options, universe, stage, tell)
  const stuck = setTimeout(() => void tellActivity(stage.admin, tell), seconds * 1_000 + STUCK_AFTER_MS)
  try {
    return await check.run(proxy)
  } finally {
    clearTimeout(stuck)
    check.processes.kill()
    await proxy[Symbol.asyncDispose]()
    await stage.server.stop()
  }
}

/** Says what the server does, for a run that does not end. */
async function tellActivity(connectionString: string, tell: (text: string) => void): Promise<void> {
  const client = new pg.Client({ connectionString, application_name: 'check: stuck' })
  client.on('error', () => {})
  try {
    await client.connect()
    const { rows } = await client.query<{ line: string }>(
      `SELECT concat_ws(', ', pid, application_name, state, wait_event, 'blocked by ' || pg_blocking_pids(pid)::text,
        left(query, 100)) AS line
      FROM pg_stat_activity WHERE backend_type = 'client backend' ORDER BY pid`,
    )
    tell(['the check takes too long; the server does this:', ...rows.map(({ line }) => line)].join('\n'))
  } catch (error) {
    tell(`the check takes too long, and the server does not answer: ${error}`)
  } finally {
    await client.end().catch(() => {})
  }
}

class Check {
  readonly log: HistoryLog
  readonly processes: Processes
  readonly #options: Options
  readonly #universe: Universe
  readonly #stage: Stage
  readonly #tell: (text: string) => void
  readonly #errors: Record<string, number> = {}
  /** The first text of each SQLSTATE. */
  readonly #errorTexts: Record<string, string> = {}
  readonly #unhandled: string[] = []
  readonly #counts = { flushed: 0, flushes: 0, held: 0, operations: 0, leakedListeners: 0, notStored: 0 }

  constructor(options: Options, universe: Universe, stage: Stage, tell: (text: string) => void) {
    this.#options = options
    this.#universe = universe
    this.#stage = stage
    this.#tell = tell
    this.log = new HistoryLog(universe.size)
    this.processes = new Processes({
      hear: (owner, message) => this.#hear(owner, message),
      ended: (owner, at) => this.log.ended(owner, at),
    })
    process.on('unhandledRejection', reason => this.#unhandled.push(`the check: ${reason}`))
    process.on('warning', warning => this.#unhandled.push(`the check: ${warning}`))
  }

  async run(proxy: Awaited<ReturnType<typeof startBadNetwork>>): Promise<Totals> {
    const { minutes, seed, crash } = this.#options
    const watch = new LockWatch(this.#stage.admin)
    watch.start()
    const calm = new AbortController()
    const nemesis = new Nemesis(
      { stage: this.#stage, processes: this.processes, proxy, log: this.log, universe: this.#universe },
      calm.signal,
    )
    const own = await this.#startAll(proxy)
    const started = performance.now()
    const reader = new Reader(this.log, this.#universe)
    const beside = [
      this.#flushByHand(calm.signal),
      reader.run(this.#stage.as.reader, seed, async message => this.#hear('reader', message), calm.signal),
    ]
    const progress = setInterval(() => this.#tellProgress(started, nemesis.counts), 3_000)
    const faults = nemesis.run(seed, { crash })
    await Promise.race([delay(minutes * 60_000), faults])
    clearInterval(progress)
    calm.abort()
    await faults
    const seconds = (performance.now() - started) / 1_000
    proxy.heal()
    this.#tell('the faults are over; writers and hosts end')
    this.processes.close()
    own.stop.abort()
    // A drain by hand ends only when the writers have ended: on a slow machine they mark faster than it flushes.
    await Promise.all([this.processes.stop(['writer', 'host'], END_MS), own.ended, ...beside])
    this.log.ended('own', Date.now())
    this.#tell('the last marks are flushed')
    const leftPending = await this.#flushTheRest()
    await this.processes.stop(['worker'], END_MS)
    await watch.stop()
    await proxy[Symbol.asyncDispose]()
    return await this.#conclude({ seconds, watch, reader, faults: nemesis.counts, leftPending })
  }

  async #startAll(proxy: { through(url: string): string }): Promise<{
    stop: AbortController
    ended: Promise<void>
  }> {
    const { as } = this.#stage
    const part = (role: Part['role'], number: number, database: string) => ({
      role,
      number,
      seed: this.#options.seed,
      universe: this.#universe.size,
      database,
      proxied: proxy.through(database),
    })
    await Promise.all([
      ...Array.from({ length: WORKERS }, (_, n) => this.processes.start(part('worker', n, as.worker))),
      ...Array.from({ length: WRITERS }, (_, n) => this.processes.start(part('writer', n, as.marker))),
      ...Array.from({ length: HOSTS }, (_, n) => this.processes.start(part('host', n, as.host))),
    ])
    const stop = new AbortController()
    const ended = runWriter({
      ...part('writer', WRITERS, as.marker),
      life: 0,
      universe: this.#universe,
      signal: stop.signal,
      report: async message => this.#hear('own', message),
    })
    return { stop, ended }
  }

  #hear(owner: string, message: Message): void {
    this.log.hear(owner, message)
    switch (message.type) {
      case 'error':
        this.#errors[message.state] = (this.#errors[message.state] ?? 0) + 1
        this.#errorTexts[message.state] ??= `${owner}: ${message.text}`
        break
      case 'unhandled':
        this.#unhandled.push(`${owner}: ${message.text}`)
        break
      case 'leaked listeners':
        this.#counts.leakedListeners += message.count
        break
      case 'not stored':
        this.#counts.notStored += message.left + message.dropped
        break
      case 'flushed':
        this.#counts.flushes++
        this.#counts.flushed += message.marks
        this.#counts.held += message.held
        break
      case 'operations':
        this.#counts.operations += message.count
    }
  }

  /** Flushes and drains by hand beside the workers, with batches of all sizes. */
  async #flushByHand(signal: AbortSignal): Promise<void> {
    const pool = openPool(this.#stage.as.worker, 'flush by hand', 2)
    const random = new Random(this.#options.seed + 1)
    const report = async (message: Message) => this.#hear('hand', message)
    while (!signal.aborted) {
      const by = random.next() < 0.7 ? flush : drain
      const settings = {
        batchSize: random.integer(by === flush ? 1 : 500, 4_000),
        unknownAfterSeconds: 86_400,
      }
      await by(pool, settings).then(
        ({ flushed, held, emptied }) => report({ type: 'flushed', marks: flushed, held, emptied }),
        error => reportError(report, error),
      )
      await pause(random.integer(50, 800), signal)
    }
    await pool.end()
  }

  /** Creates the workspaces that are missing, and drains until nothing is pending. @returns what is left */
  async #flushTheRest(): Promise<number> {
    const pool = openPool(this.#stage.admin, 'flush of the rest', 2)
    const host = openPool(this.#stage.as.host, 'last host', 1)
    try {
      await host.query('INSERT INTO workspaces (id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING', [
        this.#universe.ids,
      ])
      const deadline = performance.now() + 60_000
      for (;;) {
        await drain(pool, { unknownAfterSeconds: 86_400, batchSize: 10_000 }).then(
          ({ flushed }) => (this.#counts.flushed += flushed),
        )
        const { rows } = await pool.query<{ left: number }>(
          'SELECT (SELECT count(*) FROM pending_usage)::int + (SELECT count(*) FROM set_aside_usage)::int AS left',
        )
        if (rows[0]!.left === 0 || performance.now() > deadline) return rows[0]!.left
        await delay(200)
      }
    } finally {
      await Promise.all([pool.end(), host.end()])
    }
  }

  async #conclude(run: {
    seconds: number
    watch: LockWatch
    reader: Reader
    faults: FaultCounts
    leftPending: number
  }): Promise<Totals> {
    const client = new pg.Client({ connectionString: this.#stage.admin, application_name: 'check: judge' })
    await client.connect()
    try {
      const read = await readTables(client, this.#universe)
      return {
        ...this.#counts,
        ...read.totals,
        seconds: run.seconds,
        workspaces: this.#universe.size,
        marks: this.log.counts,
        faults: run.faults,
        errors: this.#errors,
        errorTexts: this.#errorTexts,
        verdict: judge(this.log, read.found, this.#universe.ids),
        waits: run.watch.waits,
        sightings: run.reader.sightings,
        deadlocks: Math.max(read.totals.deadlocks, this.#errors['40P01'] ?? 0),
        unhandled: this.#unhandled,
        leftPending: run.leftPending,
        failedProcesses: this.processes.failed,
        crashes: this.log.crashes.length,
        flushedAndLost: this.log.flushedAndLost,
      }
    } finally {
      await client.end()
    }
  }

  #tellProgress(started: number, faults: FaultCounts): void {
    const seconds = Math.round((performance.now() - started) / 1_000)
    const { acknowledged } = this.log.counts
    const injected = Object.values(faults).reduce((sum, count) => sum + count, 0)
    this.#tell(
      `${seconds} s: ${acknowledged.toLocaleString('en')} marks acknowledged, ` +
        `${this.#counts.flushed.toLocaleString('en')} flushed, ${injected} faults`,
    )
  }
}
