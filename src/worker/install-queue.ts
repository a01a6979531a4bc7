import { PgBoss, policies, type UpdateQueueOptions } from 'pg-boss'
import type { Connection } from '../database/connection.ts'
import type { SettledPool } from '../database/settled-pool.ts'
import type { Logger } from '../logger.ts'
import { bossBackend } from './backend.ts'
import { buildIndexes } from './build-indexes.ts'
import { DEFAULT_FLUSH_INTERVAL_SECONDS, flushInterval, intervalOfCron } from './flush-interval.ts'
import { presentSchedule, removeFormerQueues } from './former-queues.ts'
import { type FlushQueues, flushQueues } from './queue.ts'
import {
  FAILED_QUEUE_OPTIONS,
  FLUSH_POLICY,
  FLUSH_QUEUE_OPTIONS,
  HISTORY_POLICY,
  HISTORY_QUEUE_OPTIONS,
  REAP_POLICY,
  REAP_QUEUE_OPTIONS,
} from './queue-options.ts'
import { assertQueueUpgradable, restoreVersion } from './queue-upgrade.ts'
import { assertPolicy } from './requirements.ts'
import { scheduleFlushes } from './schedule.ts'

/** The queue and the schedule after a migration. */
export interface QueueInstallation {
  queue: string
  /** The version of pg-boss's schema. */
  schemaVersion: number
  /** The cron expression of the schedule. It is the default until a worker sets its own. */
  cron: string
}

/** Where the queue is installed. */
export interface QueueTarget {
  database: SettledPool
  logger: Logger
  /** Called before each step. Throws if somebody else may be migrating by now. */
  assertHeld(): Promise<void>
}

/**
 * Installs or upgrades pg-boss's schema, the queues and the schedule. Only here may pg-boss create anything. It can be
 * repeated. The interval that a worker has set stays.
 *
 * @throws {QueueSchemaError} If pg-boss's schema is newer than this pg-boss, or too old. Nothing is changed then.
 * @throws {QueueSchemaUnknownError} If pg-boss's schema tells no version. Nothing is changed then.
 * @throws {QueuePolicyError} If the queue exists with another policy.
 */
export async function installQueue({
  database,
  logger,
  assertHeld,
}: QueueTarget): Promise<QueueInstallation> {
  await assertQueueUpgradable(database)
  await restoreVersion(database)
  const start = () => startInstaller(database, logger)
  const boss = await start()
  try {
    await buildIndexes({ connection: database, start, assertHeld, abort: () => database.abort(), logger })
    const queues = await flushQueues(database)
    await assertHeld()
    await createQueues(boss, queues)
    await assertHeld()
    const cron = await keepOrSetSchedule(boss, database, queues)
    await removeFormerQueues(boss, database, queues)
    return { queue: queues.flush, schemaVersion: (await boss.schemaVersion()) ?? 0, cron }
  } catch (error) {
    // A stop would wait for the end of an index.
    database.abort()
    throw error
  } finally {
    await boss.stop({ graceful: true })
  }
}

/** A pg-boss that may create and upgrade. It runs no jobs. */
async function startInstaller(database: SettledPool, logger: Logger): Promise<PgBoss> {
  const boss = new PgBoss({
    db: database,
    supervise: false,
    schedule: false,
    bamIntervalSeconds: 10,
    ...(await bossBackend(database)),
  })
  boss.on('error', error => {
    // We have broken its connections ourselves, and the caller gets the reason.
    if (!database.isAborted) logger.error({ err: error }, 'pg-boss failed')
  })
  boss.on('warning', warning => logger.warn({ ...warning }, 'pg-boss warns'))
  return await boss.start()
}

/** What a queue is installed with. */
interface QueuePlan {
  name: string
  policy: string
  options: UpdateQueueOptions
}

/** The queues, each after its dead-letter queue. */
function plans({ flush, failed, reap, history }: FlushQueues): QueuePlan[] {
  return [
    { name: failed, policy: policies.standard, options: FAILED_QUEUE_OPTIONS },
    { name: flush, policy: FLUSH_POLICY, options: { ...FLUSH_QUEUE_OPTIONS, deadLetter: failed } },
    { name: reap, policy: REAP_POLICY, options: REAP_QUEUE_OPTIONS },
    { name: history, policy: HISTORY_POLICY, options: HISTORY_QUEUE_OPTIONS },
  ]
}

/** createQueue does not change a queue that exists. updateQueue does, but for the policy. */
async function createQueues(boss: PgBoss, queues: FlushQueues): Promise<void> {
  for (const { name, policy, options } of plans(queues)) {
    await boss.createQueue(name, { policy })
    await assertPolicy(boss, name, policy)
    await boss.updateQueue(name, options)
  }
}

/** Keeps the interval of an existing schedule. @returns Its cron expression. */
async function keepOrSetSchedule(boss: PgBoss, connection: Connection, queues: FlushQueues): Promise<string> {
  const existing = await presentSchedule(connection, queues)
  const seconds = existing
    ? (existing.intervalSeconds ?? intervalOfCron(existing.cron))
    : DEFAULT_FLUSH_INTERVAL_SECONDS
  // An existing schedule is set again, because an older release may have used other options.
  await scheduleFlushes(boss, queues.flush, seconds)
  return flushInterval(seconds).cron
}
