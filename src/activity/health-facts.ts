import { execute, type Queryable, type Statement } from '../database/connection.ts'
import { asIsoText } from '../database/timestamp.ts'
import { type FlushQueues, flushQueues, JOB_SCHEMA, type ResetReason } from '../worker/queue.ts'
import { type FailingFlushes, failingFlushes } from './failing-flushes.ts'
import { type MarkFacts, markFacts } from './health-marks.ts'
import type { HealthLimits } from './health-options.ts'
import { LOCKERS, oldTransaction } from './horizon.ts'
import { type LastFlush, lastFlush } from './last-flush.ts'
import { type RefusedWorkspaces, refusedWorkspaces } from './refused.ts'
import { type SilentSource, silentSources } from './sources.ts'
import { type PendingStatus, pendingStatus } from './status.ts'

/** All that the verdict is judged by. */
export interface HealthFacts {
  queues: FlushQueues
  pending: PendingStatus
  lastFlush: LastFlush | null
  failing: FailingFlushes | null
  refused: RefusedWorkspaces
  silent: SilentSource[]
  other: OtherFacts
}

/** What only the verdict asks for. Times are as `asIsoText` writes them. */
export interface OtherFacts extends MarkFacts {
  asOf: string
  queue: QueueFacts | null
  failedQueue: Pick<QueueFacts, 'retention_seconds' | 'deletion_seconds'> | null
  schedule: ScheduleFacts | null
  /** When a job of the queue last began or ended, or when the queue was created. */
  workerSeenAt: string | null
  /** When a flush job last succeeded, as far as pg-boss still has it. */
  jobSucceededAt: string | null
  failedJobs: number
  newestFailedJobAt: string | null
  /** The counts of the flush jobs that pg-boss still has. */
  flushed: number
  unknown: number
  /** Who has locked workspaces, such as `process 4711 (psql)`, the oldest first. Empty if no marks are held for long. */
  lockers: string[]
  /** Whether pending marks were lost, and no flush has noticed it yet. */
  lossUnnoticed: boolean
  /** What `usage_complete_since()` answers. Null if no marks were ever lost. */
  completeSince: string | null
  resets: number
  lastResetAt: string | null
  lastResetReason: ResetReason | null
  flushedUntil: string | null
  /** Those of our tables of marks that are not UNLOGGED. */
  logged: string[]
  /** The tables that a crash empties. */
  unlogged: string[]
  oldTransaction: OldTransaction | null
}

/** A row of pg-boss's table of queues, with its own names. */
export interface QueueFacts {
  policy: string
  retry_limit: number
  retry_delay: number
  retry_backoff: boolean
  retry_delay_max: number | null
  expire_seconds: number
  retention_seconds: number
  deletion_seconds: number
  dead_letter: string | null
}

/** A row of pg-boss's table of schedules. */
export interface ScheduleFacts {
  kind: string
  cron: string
  timezone: string | null
  intervalSeconds: number | null
  missed: string | null
}

/** What keeps VACUUM back. */
export interface OldTransaction {
  /** Such as `the transaction of process 4711 (psql)`. */
  what: string
  /** Null if the role can't see it. It is older than the limit nevertheless. */
  since: string | null
}

/** Reads the facts, one statement after the other. */
export async function healthFacts(connection: Queryable, limits: HealthLimits): Promise<HealthFacts> {
  const queues = await flushQueues(connection)
  return {
    queues,
    pending: await pendingStatus(connection),
    lastFlush: await lastFlush(connection),
    failing: await failingFlushes(connection),
    refused: await refusedWorkspaces(connection, { limit: 1 }),
    silent: await silentSources(connection, limits.silentAfterSeconds),
    other: await otherFacts(connection, queues, limits),
  }
}

const iso = (time: string) => asIsoText(time)

async function otherFacts(
  connection: Queryable,
  { flush, failed }: FlushQueues,
  { heldAfterSeconds, oldTransactionSeconds }: HealthLimits,
): Promise<OtherFacts> {
  const marks = await markFacts(connection, heldAfterSeconds)
  const statement: Statement<{ facts: string }> = {
    sql: `SELECT json_build_object(
      'asOf', ${iso('statement_timestamp()')},
      'queue', (SELECT row_to_json(q) FROM ${JOB_SCHEMA}.queue q WHERE name = $1),
      'failedQueue', (SELECT row_to_json(q) FROM ${JOB_SCHEMA}.queue q WHERE name = $2),
      'schedule', (
        SELECT json_build_object('kind', kind, 'cron', cron, 'timezone', timezone,
          'intervalSeconds', data->'intervalSeconds', 'missed', options->>'missed')
        FROM ${JOB_SCHEMA}.schedule WHERE name = $1 AND key = ''
      ),
      'workerSeenAt', ${iso(`greatest(
        (SELECT max(greatest(started_on, completed_on)) FROM ${JOB_SCHEMA}.job WHERE name = $1),
        (SELECT created_on FROM ${JOB_SCHEMA}.queue WHERE name = $1)
      )`)},
      'jobSucceededAt', ${iso(`(SELECT max(completed_on) FROM ${JOB_SCHEMA}.job WHERE name = $1 AND state = 'completed')`)},
      'failedJobs', (SELECT count(*) FROM ${JOB_SCHEMA}.job WHERE name = $2 AND state = 'created'),
      'newestFailedJobAt', ${iso(`(SELECT max(created_on) FROM ${JOB_SCHEMA}.job WHERE name = $2 AND state = 'created')`)},
      'flushed', (${sumOfOutputs('flushed')}),
      'unknown', (${sumOfOutputs('unknown')}),
      'lockers', CASE WHEN $3 > 0 THEN ${LOCKERS} ELSE '{}'::text[] END,
      'lossUnnoticed', complete.since = statement_timestamp(),
      'completeSince', ${iso('CASE WHEN isfinite(complete.since) THEN complete.since END')},
      'resets', (SELECT count(*) FROM pending_usage_reset),
      'lastResetAt', ${iso('reset.noticed_at')}, 'flushedUntil', ${iso('reset.flushed_until')},
      'lastResetReason', reset.reason,
      'logged', ${tablesOf('p', ['pending_usage', 'set_aside_usage'])},
      'unlogged', ${tablesOf('u', ['pending_usage', 'set_aside_usage', 'refused_usage', 'pending_usage_witness'])},
      'oldTransaction', (${oldTransaction('$1', '$4')})
    )::text AS facts
    FROM (SELECT usage_complete_since() AS since) complete
    LEFT JOIN LATERAL (
      SELECT noticed_at, flushed_until, reason FROM pending_usage_reset ORDER BY noticed_at DESC LIMIT 1
    ) reset ON true`,
    parameters: [flush, failed, marks.heldLong, oldTransactionSeconds],
  }
  const { rows } = await execute(connection, statement)
  return { ...marks, ...JSON.parse(rows[0]!.facts) }
}

function tablesOf(persistence: 'p' | 'u', names: readonly string[]): string {
  return `ARRAY (
    SELECT relname FROM pg_catalog.pg_class
    WHERE oid IN (${names.map(name => `'${name}'::regclass`).join(', ')}) AND relpersistence = '${persistence}' ORDER BY 1
  )`
}

/** A job that somebody completed by hand may have any output. */
function sumOfOutputs(count: string): string {
  return `SELECT coalesce(sum(CASE jsonb_typeof(output->'${count}') WHEN 'number' THEN (output->>'${count}')::numeric END), 0)
    FROM ${JOB_SCHEMA}.job WHERE name = $1 AND state = 'completed'`
}
