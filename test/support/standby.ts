import pg from 'pg'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { atEnd } from './at-end.ts'
import { until } from './poll.ts'

/**
 * Starts a standby of an embedded PostgreSQL 18, which is down for a moment meanwhile, and waits until it
 * streams. Its databases have the primary's names. `SELECT pg_promote()` there makes it a primary. Stopped at
 * the file's end.
 */
export async function startStandby(primary: EmbeddedPostgres): Promise<EmbeddedPostgres> {
  await primary.shutDown()
  const standby = await startEmbeddedPostgres({
    standbyOf: primary,
    // The primary is still down when it first looks.
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
  // A test server commits before it flushes; this flushes.
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
