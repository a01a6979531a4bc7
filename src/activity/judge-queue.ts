import { DEFAULT_FLUSH_INTERVAL_SECONDS, FLUSH_INTERVAL, flushInterval } from '../worker/flush-interval.ts'
import { JOB_SCHEMA } from '../worker/queue.ts'
import {
  FAILED_QUEUE_OPTIONS,
  FLUSH_POLICY,
  FLUSH_QUEUE_OPTIONS,
  SCHEDULE_OPTIONS,
  SCHEDULE_TIME_ZONE,
} from '../worker/queue-options.ts'
import type { HealthFacts, QueueFacts, ScheduleFacts } from './health-facts.ts'
import type { Problem } from './problem.ts'

/** Whether the queues are there, and as `migrate` sets them. */
export function judgeQueue({ queues, other: { queue, failedQueue } }: HealthFacts): Problem[] {
  const missing = [!queue && queues.flush, !failedQueue && queues.failed].filter(name => name !== false)
  const problems = missing.map((name): Problem => {
    return {
      code: 'queue',
      severity: 'critical',
      message: `The pg-boss queue ${name} does not exist.`,
      remedy: 'Run workspace-usage migrate, and restart the workers.',
      since: null,
      object: name,
    }
  })
  const altered = [
    ...(queue ? [[queues.flush, differences(queue, expectedQueue(queues.failed))] as const] : []),
    ...(failedQueue ? [[queues.failed, differences(failedQueue, EXPECTED_FAILED_QUEUE)] as const] : []),
  ]
  for (const [name, found] of altered) {
    if (found.length > 0) problems.push(alteredQueue(name, found))
  }
  return problems
}

function alteredQueue(name: string, found: readonly string[]): Problem {
  const isPolicy = found.some(difference => difference.startsWith('policy '))
  return {
    code: 'queue',
    // With another policy no worker starts, and flushes may wait for the job of a worker that was killed.
    severity: isPolicy ? 'critical' : 'warning',
    message: `The pg-boss queue ${name} is not as migrate sets it: ${found.join(', ')}.`,
    remedy: isPolicy
      ? `pg-boss can not change a policy: stop the workers, run SELECT ${JOB_SCHEMA}.delete_queue('${name}'), then workspace-usage migrate.`
      : 'Run workspace-usage migrate.',
    since: null,
    object: name,
  }
}

type Row = Readonly<Record<string, unknown>>

function expectedQueue(deadLetter: string): Partial<Record<keyof QueueFacts, unknown>> {
  return {
    policy: FLUSH_POLICY,
    retry_limit: FLUSH_QUEUE_OPTIONS.retryLimit,
    retry_delay: FLUSH_QUEUE_OPTIONS.retryDelay,
    retry_backoff: FLUSH_QUEUE_OPTIONS.retryBackoff,
    retry_delay_max: FLUSH_QUEUE_OPTIONS.retryDelayMax,
    expire_seconds: FLUSH_QUEUE_OPTIONS.expireInSeconds,
    retention_seconds: FLUSH_QUEUE_OPTIONS.retentionSeconds,
    deletion_seconds: FLUSH_QUEUE_OPTIONS.deleteAfterSeconds,
    dead_letter: deadLetter,
  }
}

const EXPECTED_FAILED_QUEUE = {
  retention_seconds: FAILED_QUEUE_OPTIONS.retentionSeconds,
  deletion_seconds: FAILED_QUEUE_OPTIONS.deleteAfterSeconds,
}

/** The differences in words, such as `retry_limit 0 (expected 3)`. */
function differences(found: object, expected: Row): string[] {
  return Object.entries(expected)
    .filter(([name, value]) => (found as Row)[name] !== value)
    .map(([name, value]) => `${name} ${(found as Row)[name] ?? 'none'} (expected ${value})`)
}

/** Whether the schedule is there, and as a worker sets it. */
export function judgeSchedule({ queues, other: { queue, schedule } }: HealthFacts): Problem[] {
  // A queue takes its schedule along.
  if (!queue) return []
  if (!schedule) {
    return [
      {
        code: 'schedule',
        severity: 'critical',
        message: `The queue ${queues.flush} has no schedule: nobody sends flush jobs.`,
        remedy: 'Run workspace-usage migrate, or restart a worker.',
        since: null,
        object: queues.flush,
      },
    ]
  }
  const found = scheduleDifferences(schedule)
  if (found.length === 0) return []
  return [
    {
      code: 'schedule',
      severity: 'warning',
      message: `The schedule of the queue ${queues.flush} is not as a worker sets it: ${found.join(', ')}.`,
      remedy: 'Restart a worker: it sets the schedule by its --flush-interval.',
      since: null,
      object: queues.flush,
    },
  ]
}

function scheduleDifferences(schedule: ScheduleFacts): string[] {
  const { intervalSeconds } = schedule
  if (!FLUSH_INTERVAL.accepts(intervalSeconds)) return [`interval ${intervalSeconds ?? 'none'}`]
  return differences(
    { ...schedule, timezone: schedule.timezone ?? SCHEDULE_TIME_ZONE },
    {
      kind: 'cron',
      cron: flushInterval(intervalSeconds!).cron,
      timezone: SCHEDULE_TIME_ZONE,
      missed: SCHEDULE_OPTIONS.missed,
    },
  )
}

/** The seconds between two jobs of the schedule, at most. */
export function scheduleSeconds(schedule: ScheduleFacts | null): number {
  const interval = schedule?.intervalSeconds
  return FLUSH_INTERVAL.accepts(interval)
    ? Math.max(DEFAULT_FLUSH_INTERVAL_SECONDS, interval!)
    : DEFAULT_FLUSH_INTERVAL_SECONDS
}
