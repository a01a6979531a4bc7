import type { Logger } from '../logger.ts'
import type { FailureKind } from './events.ts'
import { FailureStreak } from './failure-streak.ts'
import type { FlushAttempt } from './flush-attempt.ts'
import { type FinishedFlush, FlushLog } from './flush-log.ts'
import { Hooks } from './hooks.ts'
import { JobLog } from './job-log.ts'
import type { TransactionReports } from './job-transaction.ts'
import { countFailure, countFlush, findSdk } from './telemetry.ts'
import type { WorkerSettings } from './worker-options.ts'

/** Turns an error of a statement into one that says what to do. */
export type Explain = (error: unknown) => Promise<unknown>

/**
 * Tells everybody what became of the flushes of one worker: its log, the hooks of the host, and OpenTelemetry. To
 * explain an error takes a statement, so the reports wait for one another. Nobody waits for them.
 */
export class FlushReports implements TransactionReports {
  readonly #queue: string
  readonly #flushLog: FlushLog
  readonly #jobLog: JobLog
  readonly #hooks: Hooks
  readonly #explain: Explain
  readonly #streak = new FailureStreak()
  #last: Promise<void> = Promise.resolve()

  constructor(
    queue: string,
    { logger, hooks }: { logger: Logger } & Pick<WorkerSettings, 'hooks'>,
    explain: Explain,
  ) {
    this.#queue = queue
    this.#flushLog = new FlushLog(logger)
    this.#jobLog = new JobLog(logger)
    this.#hooks = new Hooks(hooks, logger)
    this.#explain = explain
  }

  /** Resolves when all that was reported so far is told. */
  get told(): Promise<void> {
    return this.#last
  }

  committed(flush: FinishedFlush, attempt: FlushAttempt): void {
    attempt.committed(flush.result)
    countFlush(this.#queue, flush)
    this.#tell(() => this.#tellCommitted(flush, attempt.jobId))
  }

  failed(error: unknown, attempt: FlushAttempt | null): void {
    attempt?.failed(error)
    countFailure(this.#queue, error, attempt)
    this.#tell(async () => {
      const explained = await this.#explain(error)
      this.#flushLog.failed(explained)
      this.#tellFailure('flush', explained, attempt?.jobId ?? null)
    })
  }

  /** Taking a job failed, or telling pg-boss what became of it. */
  jobsFailed(error: unknown): void {
    findSdk()
    this.#tell(async () => {
      const explained = await this.#explain(error)
      if (this.#jobLog.failed(explained)) this.#tellFailure('jobs', explained, null)
    })
  }

  /** The database went out of reach. That is logged already. */
  unreachable(error: unknown): void {
    findSdk()
    this.#tell(() => this.#tellFailure('unreachable', error, null))
  }

  #tellCommitted({ result, durationMs }: FinishedFlush, jobId: string): void {
    this.#jobLog.works()
    this.#flushLog.flushed({ result, durationMs })
    const queue = this.#queue
    this.#hooks.call('onFlush', { result, durationMs, jobId, queue, recovered: this.#streak.end() })
    if (result.reset) this.#hooks.call('onReset', { ...result.reset, noticedAt: new Date(), jobId, queue })
  }

  #tellFailure(kind: FailureKind, error: unknown, jobId: string | null): void {
    this.#hooks.call('onFailure', { kind, error, ...this.#streak.count(kind), jobId, queue: this.#queue })
  }

  #tell(report: () => void | Promise<void>): void {
    // Only a logger that throws can make it fail. The next report must be told all the same.
    this.#last = this.#last.then(report).catch(error => process.emitWarning(error))
  }
}
