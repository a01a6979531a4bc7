import { asIsoText } from '../database/timestamp.ts'
import { JOB_SCHEMA } from '../worker/queue.ts'

/*
 * What keeps VACUUM back: the oldest snapshot or writer of this database, prepared transactions and replication slots.
 *
 * PostgreSQL tells a role the times of others' transactions only if it may read all statistics, which a worker's role
 * may not. It never tells a time for a slot. It does tell their transaction numbers. A flush job that pg-boss completed
 * before the limit has written its row with such a number too. So whoever keeps that number or an older one is older than the limit.
 * Without such a job nothing is claimed of them.
 */

/**
 * SQL of a JSON object about the oldest one, or NULL: `what` it is, such as `process 4711 (psql)`, and `since` when, or
 * null if that can't be seen.
 *
 * @param queue SQL of the name of the flush queue.
 * @param seconds SQL of the age from which on it counts.
 */
export function oldTransaction(queue: string, seconds: string): string {
  const limit = `clock_timestamp() - make_interval(secs => ${seconds})`
  return `
    SELECT json_build_object('what', what, 'since', ${asIsoText('since')}) FROM (
      SELECT format('the %s of process %s (%s)', CASE backend_type WHEN 'walsender' THEN 'standby' ELSE 'transaction' END,
          pid, coalesce(nullif(application_name, ''), 'without application_name')) AS what,
        xact_start AS since, greatest(age(backend_xid), age(backend_xmin)) AS age, backend_xid IS NULL AS reads
      FROM pg_catalog.pg_stat_activity
      WHERE (datname = current_database() AND backend_type IS DISTINCT FROM 'autovacuum worker'
          OR backend_type = 'walsender')
        AND pid <> pg_catalog.pg_backend_pid()
        AND pid NOT IN (SELECT pid FROM pg_catalog.pg_stat_progress_vacuum)
      UNION ALL
      SELECT format('the prepared transaction %L', gid), prepared, age(transaction), false
      FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()
      UNION ALL
      SELECT format('the replication slot %s', slot_name), NULL, age(xmin), true
      FROM pg_catalog.pg_replication_slots
    ) AS keeper
    WHERE age IS NOT NULL AND CASE
      WHEN since IS NOT NULL THEN since < ${limit}
      ELSE age >= (
        SELECT min(age(xmin)) FROM ${JOB_SCHEMA}.job
        WHERE name = ${queue} AND state = 'completed' AND completed_on < ${limit}
      )
    END
    ORDER BY age DESC, reads, what LIMIT 1`
}

/** `workspaces`, and what is below it if it is a view: the table of the host. The last column of a view tells which. */
const WORKSPACES = `(
  WITH RECURSIVE below (oid) AS (
    SELECT 'workspaces'::regclass::oid
    UNION
    SELECT (pg_catalog.regexp_match(r.ev_action::text, '^.*:resorigtbl ([1-9][0-9]*) :resorigcol '))[1]::oid
    FROM below JOIN pg_catalog.pg_rewrite r ON r.ev_class = below.oid AND r.rulename = '_RETURN'
  )
  SELECT oid FROM below
)`

/**
 * SQL of an array of the sessions and prepared transactions that have locked rows of `workspaces`, the oldest first, at
 * most three. One that only reads is not among them.
 */
export const LOCKERS = `ARRAY (
  SELECT CASE
    WHEN l.pid IS NULL THEN format('prepared transaction %L', p.gid)
    ELSE format('process %s (%s)', l.pid, coalesce(nullif(a.application_name, ''), 'without application_name'))
  END
  FROM pg_catalog.pg_locks l
  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  LEFT JOIN pg_catalog.pg_prepared_xacts p ON l.virtualtransaction = '-1/' || p.transaction
  WHERE l.locktype = 'relation' AND l.granted
    AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
    AND l.relation IN ${WORKSPACES} AND l.mode NOT IN ('AccessShareLock', 'ShareUpdateExclusiveLock')
    AND l.pid IS DISTINCT FROM pg_catalog.pg_backend_pid()
  GROUP BY l.pid, p.gid, a.application_name, a.backend_xid, p.transaction
  ORDER BY age(coalesce(a.backend_xid, p.transaction)) DESC NULLS LAST, l.pid LIMIT 3
)`
