import { setTimeout } from 'node:timers/promises'
import { PgBoss, type QueueOptions } from 'pg-boss'
import type { ConnectionPool } from '../database/pool.ts'
import type { Logger } from '../logger.ts'
import { DEFAULT_FLUSH_INTERVAL_SECONDS, flushInterval, scheduleFlushes } from './flush-interval.ts'
import { assertPolicy, assertSchemaNotNewer, FLUSH_POLICY } from './installation.ts'
import { JobDatabase } from './job-database.ts'
import { FAILED_FLUSH_QUEUE, FLUSH_QUEUE } from './queue.ts'

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

/** What `migrate` found or made of pg-boss, its queues and the schedule. */
export interface QueueInstallation {
  queue: string
  /** The version of pg-boss's schema. */
  schemaVersion: number
  /** The cron expression of the schedule: a worker's, or the default until one has started. */
  cron: string
}

/**
 * Installs or upgrades pg-boss's schema, the queues and the schedule. This is the only place where pg-boss may create
 * anything. Safe to repeat. A schedule that a worker has set is left alone.
 *
 * @throws {QueueSchemaError} If pg-boss's schema is newer than this pg-boss. Nothing is changed then.
 * @throws {QueuePolicyError} If the queue exists with another policy.
 */
export async function installQueue(pool: ConnectionPool, logger: Logger): Promise<QueueInstallation> {
  const boss = new PgBoss({
    db: new JobDatabase(pool, { committed() {}, failed() {} }),
    supervise: false,
    schedule: false,
    // How soon an index that an upgrade builds in the background is begun, and the next one after it.
    bamIntervalSeconds: 10,
  })
  boss.on('error', error => logger.error({ err: error }, 'pg-boss failed'))
  boss.on('warning', warning => logger.warn({ ...warning }, 'pg-boss warns'))
  if (await boss.isInstalled()) await assertSchemaNotNewer(boss)
  await boss.start()
  try {
    await finishBackgroundMigrations(boss, logger)
    await createQueues(boss)
    const cron = await keepOrSetSchedule(boss)
    return { queue: FLUSH_QUEUE, schemaVersion: (await boss.schemaVersion()) ?? 0, cron }
  } finally {
    await boss.stop({ graceful: true })
  }
}

/** An upgrade of pg-boss may build indexes in the background. Only an instance that may migrate does so: this one. */
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

/** A queue that exists is left as it is by createQueue, and gets its options from updateQueue. */
async function createQueues(boss: PgBoss): Promise<void> {
  await boss.createQueue(FAILED_FLUSH_QUEUE, { retentionSeconds: WEEK, deleteAfterSeconds: WEEK })
  await boss.createQueue(FLUSH_QUEUE, { policy: FLUSH_POLICY })
  await assertPolicy(boss)
  await boss.updateQueue(FLUSH_QUEUE, { ...FLUSH_QUEUE_OPTIONS, deadLetter: FAILED_FLUSH_QUEUE })
}

/** @returns The cron expression. */
async function keepOrSetSchedule(boss: PgBoss): Promise<string> {
  const existing = await boss.getSchedule(FLUSH_QUEUE)
  const cron = existing?.cron ?? flushInterval(DEFAULT_FLUSH_INTERVAL_SECONDS).cron
  // Also for one that exists: an older release may have set it with other options.
  await scheduleFlushes(boss, cron)
  return cron
}
