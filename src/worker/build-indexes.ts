import { setTimeout } from 'node:timers/promises'
import type { PgBoss } from 'pg-boss'
import { type Connection, execute, type Statement } from '../database/connection.ts'
import type { Logger } from '../logger.ts'
import { handBackInterrupted } from './interrupted-builds.ts'
import { JOB_SCHEMA } from './queue.ts'

/*
 * An upgrade of pg-boss leaves commands in the table "bam", most of them CREATE INDEX CONCURRENTLY. pg-boss runs them one
 * by one, with a pause of 10 seconds or more. Workers may not migrate, so they run none, and `migrate` runs all.
 */

/** What building the indexes needs. */
export interface IndexBuilding {
  connection: Connection
  /** A pg-boss that has started. It runs the first command at once. */
  start(): Promise<PgBoss>
  /** Throws if somebody else may be migrating by now. */
  assertHeld(): Promise<void>
  /** Breaks the connections of pg-boss. */
  abort(): void
  logger: Logger
}

interface BamCommand {
  id: string
  status: 'pending' | 'in_progress' | 'failed'
  command: string
}

const POLL_MS = 100
/** pg-boss chooses a command within this time, if there is one that it may run. */
const CLAIM_MS = 2_000
/** How often a build that waits says for what. */
const REMINDER_MS = 30_000
const FIRST_REMINDER_MS = 5_000

/** Runs the commands that pg-boss has left, and those at which an earlier run was interrupted or failed. */
export async function buildIndexes(building: IndexBuilding): Promise<void> {
  const { connection, assertHeld, logger } = building
  const since = await serverTime(connection)
  let open = await openCommands(connection, since)
  if (open.length === 0) return
  logger.info({ commands: open.length }, 'pg-boss is building indexes')
  const reminder = new Reminder(building)
  // A command that fails is tried once. pg-boss may choose it again, so the rounds are counted.
  for (let rounds = 2 * open.length + 2; open.length > 0 && rounds > 0; ) {
    await assertHeld()
    await handBackInterrupted(connection, since)
    if (open.some(({ status }) => status === 'in_progress')) {
      // A pg-boss of the host runs it, or a run of ours that was killed, whose statement still goes on.
      await reminder.tell(open.length)
      await setTimeout(POLL_MS)
    } else {
      rounds--
      await runOne(building, open, since)
    }
    open = await openCommands(connection, since)
  }
  for (const { command, error } of await failedCommands(connection)) {
    logger.warn({ command, error }, 'an index of pg-boss could not be built; the next migrate tries again')
  }
}

/** Waits until at least one of the open commands has ended. */
async function runOne(building: IndexBuilding, open: BamCommand[], since: string): Promise<void> {
  const { connection, start, assertHeld } = building
  // Otherwise pg-boss pauses since the last command, whoever ran it.
  await execute(connection, { sql: `UPDATE ${JOB_SCHEMA}.version SET bam_on = NULL`, parameters: [] })
  const reminder = new Reminder(building)
  const begun = performance.now()
  const boss = await start()
  try {
    while ((await openCommands(connection, since)).length >= open.length) {
      await assertHeld()
      if (!boss.isBamWorking() && performance.now() - begun > CLAIM_MS) return
      await reminder.tell(open.length)
      await setTimeout(POLL_MS)
    }
  } catch (error) {
    building.abort()
    throw error
  } finally {
    await boss.stop({ graceful: true })
  }
}

/** Says from time to time what a build waits for. */
class Reminder {
  readonly #building: IndexBuilding
  #tellAt = performance.now() + FIRST_REMINDER_MS

  constructor(building: IndexBuilding) {
    this.#building = building
  }

  async tell(commands: number): Promise<void> {
    if (performance.now() < this.#tellAt) return
    const { connection, logger } = this.#building
    const blockers = await blockersOfBuilds(connection)
    logger.warn(
      { commands, blockers },
      'pg-boss is still building indexes; a build waits for all older transactions',
    )
    this.#tellAt = performance.now() + REMINDER_MS
  }
}

const OPEN = `status IN ('pending', 'in_progress')
  OR status = 'failed' AND (completed_on IS NULL OR completed_on < $1::timestamptz)`

/** The commands that have not succeeded, and have not failed since a time. */
async function openCommands(connection: Connection, since: string): Promise<BamCommand[]> {
  const statement: Statement<BamCommand> = {
    sql: `SELECT id::text, status, command FROM ${JOB_SCHEMA}.bam WHERE ${OPEN}`,
    parameters: [since],
  }
  return (await execute(connection, statement)).rows
}

async function failedCommands(connection: Connection): Promise<{ command: string; error: string }[]> {
  const statement: Statement<{ command: string; error: string }> = {
    sql: `SELECT trim(command) AS command, error FROM ${JOB_SCHEMA}.bam WHERE status = 'failed'`,
    parameters: [],
  }
  return (await execute(connection, statement)).rows
}

/** The backends for which a build waits, such as `pid 4711 (app), idle in transaction`. */
async function blockersOfBuilds(connection: Connection): Promise<string[]> {
  const statement: Statement<{ blocker: string }> = {
    sql: `SELECT DISTINCT format('pid %s (%s), %s', a.pid, a.application_name, a.state) AS blocker
      FROM pg_stat_activity build
      CROSS JOIN LATERAL unnest(pg_blocking_pids(build.pid)) AS blocking (pid)
      JOIN pg_stat_activity a ON a.pid = blocking.pid
      WHERE build.datname = current_database() AND build.query ~* '^\\s*(CREATE|DROP).{0,20}INDEX CONCURRENTLY'`,
    parameters: [],
  }
  return (await execute(connection, statement)).rows.map(({ blocker }) => blocker)
}

async function serverTime(connection: Connection): Promise<string> {
  const statement: Statement<{ time: string }> = {
    sql: `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US') || '+00' AS time`,
    parameters: [],
  }
  return (await execute(connection, statement)).rows[0]!.time
}
