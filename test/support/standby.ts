import pg from 'pg'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { atEnd } from './at-end.ts'
import { until } from './poll.ts'
import { programsOfRun } from './programs-of-run.ts'

/**
 * Starts a standby of an embedded PostgreSQL 18, and waits until it streams. Meanwhile the primary is down for a moment.
 * The databases of the standby have the same names. `SELECT pg_promote()` makes it a primary. It is stopped at the
 * file's end.
 */
export async function startStandby(primary: EmbeddedPostgres): Promise<EmbeddedPostgres> {
  await primary.shutDown()
  const standby = await startEmbeddedPostgres({
    ...programsOfRun(),
    standbyOf: primary,
    // The primary is still down at the first try of the standby.
    settings: { wal_retrieve_retry_interval: '50ms' },
  })
  atEnd(() => standby.stop())
  await primary.startUp()

  const client = new pg.Client({ connectionString: standby.connectionString })
  await client.connect()
  try {
    await until(
      'the standby streams from its primary',
      async () =>
        (await client.query('SELECT status FROM pg_stat_wal_receiver')).rows[0] as { status: string },
      { accept: ({ status }) => status === 'streaming' },
    )
  } finally {
    await client.end()
  }
  return standby
}

/** Waits until the standby has replayed all that the primary has written so far. */
export async function untilCaughtUp(primary: pg.Pool, standby: pg.Pool): Promise<void> {
  // A test server commits before it writes to disk. This statement makes it write.
  await primary.query(`
    BEGIN;
    SET LOCAL synchronous_commit = on;
    SELECT pg_logical_emit_message(true, 'workspace-usage tests', '');
    COMMIT
  `)
  const { rows } = await primary.query('SELECT pg_current_wal_flush_lsn() AS lsn')
  await until(
    `the standby has replayed ${rows[0].lsn}`,
    async () =>
      (await standby.query('SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn AS done', [rows[0].lsn])).rows[0]
        .done,
  )
}
