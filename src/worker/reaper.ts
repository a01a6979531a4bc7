import { type Job, PgBoss } from 'pg-boss'
import { explainPrivilegeError } from '../access/refusal.ts'
import { explainDatabaseError } from '../database/explain-error.ts'
import type { ConnectionPool } from '../database/pool.ts'
import type { ReapResult } from '../reaper/outcome.ts'
import { reapIdle } from '../reaper/reap-idle.ts'
import { DEFAULT_STOP_TIMEOUT_SECONDS } from '../reaper/reap-options.ts'
import { bossBackend } from './backend.ts'
import { BoundedPool } from './bounded-pool.ts'
import { JobDatabase } from './job-database.ts'
import { bossTimes } from './poll.ts'
import { flushQueues } from './queue.ts'
import { REAP_POLICY, REAP_QUEUE_OPTIONS, SCHEDULE_OPTIONS } from './queue-options.ts'
import { mayKeepQueueStats } from './queue-stats.ts'
import { Reach } from './reach.ts'
import { type ReaperOptions, type ReaperSettings, reaperSettings } from './reaper-options.ts'
import { assertDriverFormat, assertPolicy, assertPoolSize, assertSchema } from './requirements.ts'
import { stopInTime } from './stop-in-time.ts'
import { waitForDatabase } from './wait-for-database.ts'
import { DEFAULT_FLUSH_TIMEOUT_SECONDS } from './worker-options.ts'
import { takePool } from './worker-pool.ts'

/** A run ends by itself so long before pg-boss would give up its job, in seconds. */
const SPARE_SECONDS = 600

/** What a stop of the reaper may take beside the stop of the workspace that is under way, in seconds. */
const STOP_GRACE_SECONDS = 10

/** A running reaper. */
export interface Reaper extends AsyncDisposable {
  /**
   * Ends the run after the workspace that is being stopped, and lets go of the database. It ends in bounded time: the
   * connections are cut if `stopTimeoutSeconds` and some seconds have passed. The schedule stays.
   */
  stop(): Promise<void>
}

/**
 * Stops idle workspaces on pg-boss's schedule: {@link reapIdle} as a job of a queue of its own. The output of each job has
 * the counts, so the pg-boss dashboard shows them. Any number of reapers may be started. One run is active at a time.
 *
 * It creates nothing: `migrate` has installed the queue. A missed time is made up once. `stop` belongs to this process,
 * so a process with another policy must not run on the same schema.
 *
 * @throws {InvalidOptionError} If an option is not what it may be, or a required one is missing. Nothing is connected.
 * @throws {UnknownOptionError} If there is no such option. Nothing is connected.
 * @throws {NotMigratedError} If pg-boss, the queue or our tables are not installed, or pg-boss's schema is too old.
 * @throws {InsufficientPrivilegeError} If the role lacks what `workspace-usage grant --reaper` gives.
 * @throws As {@link startFlushWorker} for everything else.
 */
export async function startReaper(options: ReaperOptions): Promise<Reaper> {
  const settings = reaperSettings(options)
  return await waitForDatabase(() => start(settings), settings)
}

async function start(settings: ReaperSettings): Promise<Reaper> {
  const { logger, policy } = settings
  const stopSeconds = (policy.stopTimeoutSeconds ?? DEFAULT_STOP_TIMEOUT_SECONDS) + STOP_GRACE_SECONDS
  const { pool, letGo: letGoOfPool } = takePool(settings.database, settings.schema, logger, {
    applicationName: 'workspace-usage reaper',
    statementTimeoutMs: Math.max(60, stopSeconds) * 1_000,
  })
  const reach = new Reach(logger)
  const connections = new BoundedPool(pool, DEFAULT_FLUSH_TIMEOUT_SECONDS, reach)
  const ending = new AbortController()
  let boss: PgBoss | undefined
  const letGo = async () => {
    ending.abort()
    if (boss) await stopInTime(boss, connections, stopSeconds, logger)
    await letGoOfPool()
  }
  try {
    await assertPoolSize(pool)
    await assertDriverFormat(connections)
    boss = await createBoss(connections, reach, settings)
    await startRuns({ boss, connections, pool, ending: ending.signal, settings })
    reach.started()
  } catch (error) {
    const explained = await explainPrivilegeError(connections, explainDatabaseError(error), 'reaper')
    await letGo()
    throw explained
  }
  let stopping: Promise<void> | undefined
  const stop = () => {
    stopping ??= letGo()
    return stopping
  }
  return { stop, [Symbol.asyncDispose]: stop }
}

const NO_REPORTS = { committed() {}, failed() {} }

async function createBoss(
  connections: BoundedPool,
  reach: Reach,
  { logger }: ReaperSettings,
): Promise<PgBoss> {
  const boss = new PgBoss({
    db: new JobDatabase(connections, NO_REPORTS),
    migrate: false,
    createSchema: false,
    persistWarnings: true,
    persistQueueStats: await mayKeepQueueStats(connections),
    ...bossTimes(0),
    ...(await bossBackend(connections)),
  })
  boss.on('error', error => {
    // While the database is out of reach everything fails, and it was told.
    if (!reach.away && !connections.isCut) logger.error({ err: error }, 'pg-boss failed')
  })
  boss.on('warning', warning => logger.warn({ ...warning }, 'pg-boss warns'))
  return boss
}

/** What the runs of a reaper need. */
interface RunParts {
  boss: PgBoss
  connections: BoundedPool
  pool: ConnectionPool
  /** Aborted when the reaper is stopped. */
  ending: AbortSignal
  settings: ReaperSettings
}

async function startRuns({ boss, connections, pool, ending, settings }: RunParts): Promise<void> {
  const { cron, timeZone, pollSeconds, policy, logger } = settings
  const { reap: queue } = await flushQueues(connections)
  await assertSchema(boss)
  await boss.start()
  await assertPolicy(boss, queue, REAP_POLICY)
  await boss.schedule(queue, cron, null, { ...SCHEDULE_OPTIONS, tz: timeZone })
  await boss.work(
    queue,
    { pollingIntervalSeconds: pollSeconds },
    async ([job]: Job<unknown>[]): Promise<ReapJobOutput> => {
      const late = AbortSignal.timeout((REAP_QUEUE_OPTIONS.expireInSeconds - SPARE_SECONDS) * 1_000)
      try {
        const signal = AbortSignal.any([ending, late, job!.signal])
        return outputOf(await reapIdle({ ...policy, pool, logger, signal }))
      } catch (error) {
        const explained = await explainPrivilegeError(connections, error, 'reaper')
        logger.error({ err: explained }, 'a run of the reaper failed; the next one is tried when it is due')
        throw explained
      }
    },
  )
}

/** The output of a finished run, as the dashboard shows it. */
export interface ReapJobOutput extends Omit<ReapResult, 'dryRun' | 'refused' | 'failures'> {
  /** Why nothing was stopped, or nothing more. Absent if there was no reason. */
  refused?: { reason: string; message: string }[]
  /** The first failures. Absent if there was none. */
  failures?: ReapResult['failures']
}

function outputOf({ dryRun: _, refused, failures, ...counts }: ReapResult): ReapJobOutput {
  return {
    ...counts,
    ...(refused.length > 0 && { refused: refused.map(({ reason, message }) => ({ reason, message })) }),
    ...(failures.length > 0 && { failures }),
  }
}
