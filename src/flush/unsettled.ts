import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { asIsoText } from '../database/timestamp.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { orLeast } from './id-sql.ts'
import type { Look, Unsettled } from './walk.ts'

/** From so many dead rows on, ranges are noted and used. The view `pending_usage_period` has the same number. */
const MANY_DEAD = 50_000

/** Steps of the server's clock that are smaller need no walk over everything. */
const SMALL_STEP = sql`interval '1 second'`

/**
 * Looks for what {@link Look} needs. The order matters: the moment is before the look at the locks, and that is before
 * the snapshot of the flush statement. So in a transaction that keeps its snapshot, nothing can be noted.
 *
 * @returns Null if there are few dead rows. Then everything is walked over, and nothing is noted.
 */
export async function look(connection: Connection): Promise<(Look & { keepsSnapshot: boolean }) | null> {
  const { rows } = await execute(
    connection,
    compile(sql<{ look: string }>`
      SELECT json_build_object(
        'at', ${sql.raw(asIsoText('statement_timestamp() - small_step'))},
        'server', extract(epoch FROM pg_catalog.pg_postmaster_start_time())::text,
        'dead', dead,
        'markers', (
          SELECT coalesce(json_agg(json_build_object(
            'transaction', l.virtualtransaction, 'prepared', l.pid IS NULL
          )), '[]')
          FROM pg_catalog.pg_locks l
          WHERE l.locktype = 'relation' AND l.relation = 'pending_usage'::regclass AND l.mode = 'RowExclusiveLock'
            AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
            AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
        ),
        'noted', (SELECT unsettled FROM pending_usage_witness),
        'keepsSnapshot', pg_catalog.current_setting('transaction_isolation') <> 'read committed'
      )::text AS look
      FROM (
        SELECT pg_catalog.pg_stat_get_dead_tuples('pending_usage'::regclass) AS dead, ${SMALL_STEP} AS small_step
      ) AS marks
      WHERE dead >= ${MANY_DEAD}`),
  )
  return rows.length === 0 ? null : JSON.parse(rows[0]!.look)
}

/**
 * Notes on the witness where there may be marks. If another flush has noted something meanwhile, or is doing so, that
 * stays: it is right as well.
 */
export async function noteUnsettled(
  connection: Connection,
  before: Unsettled | null,
  now: Unsettled,
  idType: WorkspaceIdType,
): Promise<void> {
  // The view reads the note too, and needs an id in each place.
  const ranges = now.ranges.map(({ from: [end, id, source], until }) => ({
    from: [end, orLeast(id, idType), source],
    until,
  }))
  await execute(
    connection,
    compile(sql`
      UPDATE pending_usage_witness SET unsettled = ${JSON.stringify({ ...now, ranges })}::jsonb
      WHERE present = (SELECT present FROM pending_usage_witness FOR UPDATE SKIP LOCKED)
        AND unsettled IS NOT DISTINCT FROM ${before === null ? null : JSON.stringify(before)}::jsonb`),
  )
}
