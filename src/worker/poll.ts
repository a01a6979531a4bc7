import type { PgBoss } from 'pg-boss'
import type { Connection } from '../database/connection.ts'
import type { Clock } from './clock.ts'
import type { IntervalInForce } from './interval-in-force.ts'

/*
 * An idle worker with pg-boss's own times sends about a hundred statements a minute. A database that is billed by the
 * time in which it is awake then never sleeps. So an operator may choose to ask less often.
 */

/**
 * pg-boss asks this often whether its cron has sent something. It would be three questions one after the other until a
 * flush starts. So a worker that polls less often follows the schedule itself.
 */
const BOSS_SECONDS = 5

/** pg-boss supervises its queues this often. */
const SUPERVISE_SECONDS = 60

/** pg-boss refuses a longer interval. */
const A_DAY = 24 * 3_600

/** How often a worker that takes turns looks whether a day has passed. */
const AN_HOUR_MS = 3_600_000

/** A turn that failed is tried again after so many seconds, if the poll is longer. */
const RETRY_SECONDS = 10

/** How much later pg-boss would ask by itself, so that it is the turn that makes it ask. */
const SPARE_SECONDS = 5

/** Whether a worker sends the jobs of the schedule itself, and leaves the database alone between two polls. */
export function takesTurns(pollSeconds: number): boolean {
  return pollSeconds > BOSS_SECONDS
}

/** Seconds after which pg-boss asks for flush jobs by itself. */
export function bossPollSeconds(pollSeconds: number): number {
  return takesTurns(pollSeconds) ? pollSeconds + SPARE_SECONDS : pollSeconds
}

/** How often a worker asks for a job that is due once a day, in seconds. One that takes turns is told when to ask. */
export function dailyPollSeconds(pollSeconds: number): number {
  return takesTurns(pollSeconds) ? A_DAY : 600
}

/** The options of pg-boss that say how often it does something. */
export function bossTimes(pollSeconds: number) {
  // Flush jobs wait for no other job. A host that sends jobs which do has a pg-boss of its own.
  const times = { flowIntervalSeconds: A_DAY }
  if (!takesTurns(pollSeconds)) return times
  return { ...times, schedule: false, supervise: false, queueCacheIntervalSeconds: A_DAY }
}

/** A job that a worker which takes turns sends once a day. */
export interface DailyJob {
  queue: string
  workerId: string
  data: object
}

/** What the turns of a worker need. */
export interface TurnParts {
  boss: Pick<PgBoss, 'send' | 'supervise' | 'notifyWorker' | 'emit'>
  queue: string
  /** The id of pg-boss's worker, which asks for the jobs. */
  workerId: string
  interval: IntervalInForce
  /** A job that is due once a day. */
  daily: DailyJob
  connection: Connection
  pollSeconds: number
  clock: Clock
}

/**
 * Does all that an idle worker does at one time: it sends the job of the schedule, makes pg-boss ask for jobs, and lets
 * it supervise its queues. Then it waits. The next turn is planned when this one has ended.
 *
 * @returns Ends it. A turn under way is finished.
 */
export function takeTurns(parts: TurnParts): () => Promise<void> {
  const { boss, clock, pollSeconds } = parts
  let timer: unknown
  let isEnded = false
  let running = Promise.resolve()
  let supervisedAt = clock.now()
  let dailyAt = clock.now()
  const turn = async () => {
    await askForJobs(parts)
    if (clock.now() - dailyAt >= AN_HOUR_MS) {
      dailyAt = clock.now()
      await askForDailyJob(parts)
    }
    if (clock.now() - supervisedAt < SUPERVISE_SECONDS * 1_000) return
    supervisedAt = clock.now()
    await boss.supervise()
  }
  const plan = (seconds: number) => {
    if (!isEnded) timer = clock.setTimeout(run, seconds * 1_000)
  }
  const run = () => {
    running = turn().then(
      () => plan(pollSeconds),
      error => {
        // It is told as pg-boss tells what its own loop fails at. A stop ends its statements.
        if (!isEnded) boss.emit('error', error)
        plan(Math.min(RETRY_SECONDS, pollSeconds))
      },
    )
  }
  plan(pollSeconds)
  return async () => {
    isEnded = true
    clock.clearTimeout(timer)
    await running
  }
}

async function askForJobs({ boss, queue, workerId, interval, connection }: TurnParts): Promise<void> {
  try {
    // The database counts the intervals, so of many workers one sends the job.
    const singletonSeconds = await interval.seconds(connection)
    await boss.send(queue, null, { singletonSeconds, singletonKey: SCHEDULE_KEY })
    boss.notifyWorker(workerId)
  } catch (error) {
    throw Object.assign(error as Error, { queue })
  }
}

/** The database counts the days, so of many workers one sends the job. */
async function askForDailyJob({ boss, daily: { queue, workerId, data } }: TurnParts): Promise<void> {
  await boss.send(queue, data, { singletonSeconds: A_DAY, singletonKey: SCHEDULE_KEY })
  boss.notifyWorker(workerId)
}

/** Jobs of the turns have this key, so that a job of the chain or of a drain does not count as one. */
const SCHEDULE_KEY = 'schedule'

/** The clock of a worker without one of its own. */
export const SYSTEM_CLOCK: Clock = {
  now: () => Date.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: timer => clearTimeout(timer as NodeJS.Timeout),
  setInterval: (run, ms) => setInterval(run, ms),
  clearInterval: timer => clearInterval(timer as NodeJS.Timeout),
}
