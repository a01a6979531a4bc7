import { setTimeout } from 'node:timers/promises'
import { PgBoss, type QueueOptions } from 'pg-boss'
import type { ConnectionPool } from '../database/pool.ts'
import type { Logger } from '../logger.ts'
import { DEFAULT_FLUSH_INTERVAL_SECONDS, flushInterval, intervalOfCron } from './flush-interval.ts'
import { presentSchedule, removeFormerQueues } from './former-queues.ts'
import { JobDatabase } from './job-database.ts'
import { type FlushQueues, flushQueues } from './queue.ts'
import { assertPolicy, assertSchemaNotNewer, FLUSH_POLICY } from './requirements.ts'
import { scheduleFlushes } from './schedule.ts'

const HOUR = 3_600
const WEEK = 7 * 24 * HOUR

const FLUSH_QUEUE_OPTIONS = {
  expireInSeconds: 30,
  retryLimit: 3,
  retryDelay: 1,
  retryBackoff: true,
  retryDelayMax: 15,
  retentionSeconds: HOUR,
  deleteAfterSeconds: HOUR,
} satisfies QueueOptions

/** The queue and the schedule after a migration. */
export interface QueueInstallation {
  queue: string
  /** The version of pg-boss's schema. */
  schemaVersion: number
  /** The cron expression of the schedule. It is the default until a worker sets its own. */
  cron: string
}

/**
 * Installs or upgrades pg-boss's schema, the queues and the schedule. Only here may pg-boss create anything. It can be
 * repeated. The interval that a worker has set stays.
 *
 * @throws {QueueSchemaError} If pg-boss's schema is newer than this pg-boss. Nothing is changed then.
 * @throws {QueuePolicyError} If the queue exists with another policy.
 */
export async function installQueue(pool: ConnectionPool, logger: Logger): Promise<QueueInstallation> {
  const boss = new PgBoss({
    db: new JobDatabase(pool, { committed() {}, failed() {} }),
    supervise: false,
    schedule: false,
    // An upgrade may build indexes in the background. Each one starts after up to this many seconds.
    bamIntervalSeconds: 10,
  })
  boss.on('error', error => logger.error({ err: error }, 'pg-boss failed'))
  boss.on('warning', warning => logger.warn({ ...warning }, 'pg-boss warns'))
  if (await boss.isInstalled()) await assertSchemaNotNewer(boss)
  await boss.start()
  try {
    await finishBackgroundMigrations(boss, logger)
    const queues = await flushQueues(pool)
    await createQueues(boss, queues)
    const cron = await keepOrSetSchedule(boss, pool, queues)
    await removeFormerQueues(boss, pool, queues)
    return { queue: queues.flush, schemaVersion: (await boss.schemaVersion()) ?? 0, cron }
  } finally {
    await boss.stop({ graceful: true })
  }
}

/**
 * Waits for indexes that an upgrade of pg-boss builds in the background. Workers may not migrate, so they build none.
 */
async function finishBackgroundMigrations(boss: PgBoss, logger: Logger): Promise<void> {
  for (;;) {
    const status = await boss.getBamStatus()
    const open = status.filter(({ status }) => status === 'pending' || status === 'in_progress')
    if (open.length === 0) return
    const commands = open.reduce((sum, { count }) => sum + Number(count), 0)
    logger.info({ commands }, 'pg-boss is building indexes')
    await setTimeout(1_000)
  }
}

/** createQueue does not change a queue that exists. updateQueue does. */
async function createQueues(boss: PgBoss, { flush, failed }: FlushQueues): Promise<void> {
  await boss.createQueue(failed, { retentionSeconds: WEEK, deleteAfterSeconds: WEEK })
  await boss.createQueue(flush, { policy: FLUSH_POLICY })
  await assertPolicy(boss, flush)
  await boss.updateQueue(flush, { ...FLUSH_QUEUE_OPTIONS, deadLetter: failed })
}

/** Keeps the interval of an existing schedule. @returns Its cron expression. */
async function keepOrSetSchedule(boss: PgBoss, pool: ConnectionPool, queues: FlushQueues): Promise<string> {
  const existing = await presentSchedule(pool, queues)
  const seconds = existing
    ? (existing.intervalSeconds ?? intervalOfCron(existing.cron))
    : DEFAULT_FLUSH_INTERVAL_SECONDS
  // An existing schedule is set again, because an older release may have used other options.
  await scheduleFlushes(boss, queues.flush, seconds)
  return flushInterval(seconds).cron
}
