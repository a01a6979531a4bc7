import { type RawBuilder, sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { DISTRIBUTED } from '../database/distributed.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { WORKSPACE_ID_TYPE } from '../database/workspace-id-type.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { LONG_PERIOD } from './history.ts'

/** Why pending marks were lost. */
export type ResetReason =
  /** The server crashed. PostgreSQL empties UNLOGGED tables then. */
  | 'crash'
  /** A standby was promoted, or the server was recovered to a point in time. Neither has the rows of UNLOGGED tables. */
  | 'promotion'
  /** The database was restored from a dump, or copied. What was marked since then is not in it. */
  | 'restore'
  /** Anything else, such as somebody who emptied a table by hand. */
  | 'unknown'

/** A loss of pending marks, as the first flush after it has noted it. */
export interface UsageReset {
  reason: ResetReason
  /** Marks are complete from here on: when the loss was noticed, by the database's clock. */
  completeSince: Date
  /** Up to when use had been flushed before. Use between the two times may be missing. Null if nothing was flushed. */
  flushedUntil: Date | null
  /** Whether `pending_usage` was emptied. False if a dump has brought marks, but lacks those that were made later. */
  emptied: boolean
  /**
   * The nodes whose shards were emptied, such as `10.0.0.7:5432`, if the tables are distributed. Then `crash` may also
   * mean that a standby has taken the place of a node.
   */
  nodes?: string[]
}

/*
 * The witness is one row in an UNLOGGED table. A crash of the server or the promotion of a standby empties all UNLOGGED
 * tables together. So if the witness is missing, pending_usage was emptied since the last call. The place of the marks
 * tells why, and that a dump was restored. Migration 0010 explains how.
 */

const DATABASE = sql`(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())`
const ANCHOR = sql`(SELECT xmin::text FROM pending_usage_place WHERE NOT noted)`
const MAJOR = sql`pg_catalog.current_setting('server_version_num')::integer / 10000`
const FILE = sql`pg_catalog.pg_relation_filenode('pending_usage_witness')`

/** Every flush asks this, so it is cheap. */
const ALL_IS_WELL = sql`
  EXISTS (SELECT FROM pending_usage_witness) AND EXISTS (
    SELECT FROM pending_usage_place
    WHERE noted AND anchor = ${ANCHOR} AND database_oid = ${DATABASE} AND server_major = ${MAJOR} AND witness_file = ${FILE}
  )`

/** What the row of the place holds beside its key. */
const PLACE = [
  'anchor',
  'table_oid',
  'database_oid',
  'server_major',
  'system_identifier',
  'timeline',
  'witness_file',
]
const columns = (of: string) => sql.join(PLACE.map(name => sql.ref(`${of}.${name}`)))

/**
 * pg_repack writes rows anew too, so another anchor alone is no restore. pg_upgrade may give the database another oid, so
 * that alone is no copy.
 */
const COPIED = sql`coalesce(
  p.anchor <> here.anchor
    AND NOT (p.table_oid = here.table_oid AND coalesce(p.system_identifier = here.system_identifier, false))
  OR p.database_oid <> here.database_oid
    AND coalesce(p.system_identifier = here.system_identifier, true), false)`

/**
 * A flush that was rolled back after the crash has left a dead row in the file. But a crash takes the statistics of the
 * server as well. They are younger than the last flush then, and than the last loss.
 */
const IS_EMPTY = sql`(
  pg_catalog.pg_relation_size('pending_usage_witness') = 0
  OR greatest(flushed_until, (SELECT max(noticed_at) FROM pending_usage_reset))
    < (SELECT stats_reset FROM pg_catalog.pg_stat_bgwriter))`

const REASON = sql`CASE
  WHEN copied THEN 'restore'
  WHEN p.timeline <> here.timeline AND p.system_identifier = here.system_identifier THEN 'promotion'
  WHEN p.timeline = here.timeline AND p.system_identifier = here.system_identifier
    AND p.witness_file = here.witness_file AND ${IS_EMPTY} THEN 'crash'
  ELSE 'unknown'
END`

/**
 * Whether rows of `workspaces` have an `xmax` that this role may read. A view of a table of the host has none. The rows of
 * children would be left to those that are locked.
 */
const DIRECT = sql`(
  SELECT relkind = 'r' AND NOT relhassubclass AND coalesce(has_column_privilege(oid, (-4)::smallint, 'SELECT'), false)
  FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass('workspaces')
)`

/** What every flush must know first. */
export interface FirstLook {
  reset: UsageReset | null
  idType: WorkspaceIdType
  /** Whether a period is long for the history. */
  longPeriod: boolean
  /** Whether rows of `workspaces` tell that nobody has locked them. */
  direct: boolean
  /** Whether the tables are distributed over the nodes of a cluster. */
  distributed: boolean
}

/** Looks for what every flush must know first, such as whether marks were lost. */
export async function lookFirst(connection: Connection): Promise<FirstLook> {
  const { rows } = await execute(
    connection,
    compile(sql<{
      well: boolean | string
      id_type: WorkspaceIdType
      long: boolean | string
      direct: boolean | string
      distributed: boolean | string
    }>`
      SELECT (${ALL_IS_WELL})::text AS well, ${sql.raw(WORKSPACE_ID_TYPE)}::text AS id_type,
        (${LONG_PERIOD})::text AS long, ${DIRECT}::text AS direct, ${sql.raw(DISTRIBUTED)}::text AS distributed`),
  )
  const { well, id_type: idType, long, direct, distributed } = rows[0]!
  const reset = String(well) === 'true' ? null : await noteReset(connection)
  return {
    reset,
    idType,
    longPeriod: String(long) === 'true',
    direct: String(direct) === 'true',
    distributed: String(distributed) === 'true',
  }
}

/**
 * Puts the witness back if it is missing, and notes for good that marks were lost, and why.
 *
 * Inside a transaction that is true when it commits. Of several callers only one gets the reset, and none waits.
 *
 * @returns The reset. Null if all is well, or another caller is just noting it.
 * @throws {NotMigratedError} If a table is missing.
 * @throws {StandbyError} On a standby, or in a read-only session.
 */
export async function noticeReset(connection: Connection): Promise<UsageReset | null> {
  const { reset } = await lookFirst(connection)
  return reset
}

async function noteReset(connection: Connection): Promise<UsageReset | null> {
  const noticed = await execute(connection, compile(NOTICE))
  const line = noticed.rows[0]?.reset
  return line === undefined ? null : resetOf(line)
}

/** Reads a reset from its JSON. */
export function resetOf(json: string): UsageReset {
  const { completeSince, flushedUntil, ...reset } = JSON.parse(json) as Omit<
    UsageReset,
    'completeSince' | 'flushedUntil'
  > & { completeSince: string; flushedUntil: string | null }
  return {
    ...reset,
    completeSince: parseIsoText(completeSince),
    flushedUntil: flushedUntil === null ? null : parseIsoText(flushedUntil),
  }
}

/**
 * Whoever comes second skips the lock. If it comes after the commit of the first, with an older snapshot, it changes no
 * row, and so it notes nothing.
 */
const NOTICE: RawBuilder<{ reset: string }> = sql`
  WITH locked AS MATERIALIZED (
    SELECT noted FROM pending_usage_place WHERE noted FOR UPDATE SKIP LOCKED
  ), here AS MATERIALIZED (
    SELECT ${ANCHOR} AS anchor, 'pending_usage_place'::regclass::oid AS table_oid, ${DATABASE} AS database_oid,
      ${MAJOR} AS server_major, server.system_identifier, server.timeline, ${FILE} AS witness_file
    FROM pending_usage_server() server
    WHERE EXISTS (SELECT FROM locked) OR NOT EXISTS (SELECT FROM pending_usage_place WHERE noted)
  ), judged AS MATERIALIZED (
    SELECT witnessed, flushed_until, ${REASON} AS reason, NOT witnessed OR copied AND flushed_until IS NOT NULL AS lost
    FROM here
    LEFT JOIN pending_usage_place p ON p.noted
    CROSS JOIN LATERAL (
      SELECT ${COPIED} AS copied, EXISTS (SELECT FROM pending_usage_witness) AS witnessed,
        (SELECT max(last_used_at) FROM source_usage) AS flushed_until
    ) seen
  ), anchored AS (
    INSERT INTO pending_usage_place (noted) SELECT false FROM judged ON CONFLICT DO NOTHING
  ), placed AS (
    INSERT INTO pending_usage_place AS p (noted, ${sql.join(PLACE.map(name => sql.id(name)))})
    SELECT true, ${columns('here')} FROM here
    ON CONFLICT (noted) DO UPDATE SET (${sql.join(PLACE.map(name => sql.id(name)))}) = (SELECT ${columns('excluded')})
    WHERE (${columns('p')}) IS DISTINCT FROM (${columns('excluded')})
    RETURNING noted
  ), restored AS (
    INSERT INTO pending_usage_witness (present) SELECT true FROM judged WHERE NOT witnessed ON CONFLICT DO NOTHING
    RETURNING present
  ), noticed AS (
    INSERT INTO pending_usage_reset (noticed_at, flushed_until, reason)
    SELECT clock_timestamp(), flushed_until, reason FROM judged
    WHERE lost AND CASE WHEN witnessed THEN EXISTS (SELECT FROM placed) ELSE EXISTS (SELECT FROM restored) END
    RETURNING noticed_at, flushed_until, reason
  )
  SELECT json_build_object(
    'reason', noticed.reason, 'completeSince', ${sql.raw(asIsoText('noticed_at'))},
    'flushedUntil', ${sql.raw(asIsoText('noticed.flushed_until'))}, 'emptied', NOT witnessed
  )::text AS reset
  FROM noticed, judged`
