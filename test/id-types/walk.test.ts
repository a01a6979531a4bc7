import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drain } from '../../src/flush/drain.ts'
import { flush } from '../../src/flush/flush.ts'
import { hostDatabase, ID_HOSTS, type IdHost } from '../support/id-hosts.ts'
import { until } from '../support/poll.ts'

const WORKSPACES = 20_000

for (const host of ID_HOSTS.filter(({ name }) => name !== 'integer' && name !== 'varchar(300)')) {
  test(`among many dead marks, batches within one period walk over each id of type ${host.name} once, from both ends`, async () => {
    const ids = host.others(WORKSPACES)
    const pool = await withHolder(host, ids)
    for (let ago = 3; ago > 0; ago--) await closedMarks(pool, host, ids, ago)
    await drain(pool, { batchSize: 100_000 })
    await until('the server has counted the dead marks', async () => {
      const { rows } = await pool.query(
        `SELECT pg_stat_get_dead_tuples('pending_usage'::regclass) >= 50000 AS many`,
      )
      return rows[0].many
    })

    await closedMarks(pool, host, ids, 0)
    const edges: string[] = []
    for (let round = 0; round < 4; round++) {
      const { flushed } = await flush(pool, { batchSize: 3_000, oldestFirst: round % 2 === 1 })
      assert.equal(flushed, 3_000)
      const { rows } = await pool.query(
        `SELECT unsettled -> 'ranges' -> 0 AS range FROM pending_usage_witness`,
      )
      const { from, until } = rows[0].range
      edges.push(`${from[1]} ${until?.[1]}`)
      const left = await pool.query(
        `SELECT workspace_id::text AS id FROM pending_usage ORDER BY period_end, workspace_id`,
      )
      // The range that was noted is that of the marks that are left, and of one that was flushed at each end.
      const { rows: outside } = await pool.query(
        `SELECT count(*)::int AS count FROM pending_usage
        WHERE (period_end, workspace_id) NOT BETWEEN ($1::timestamptz, $2::${host.idType}) AND ($3::timestamptz, $4::${host.idType})`,
        [from[0], from[1], until[0], until[1]],
      )
      assert.deepEqual(outside, [{ count: 0 }])
      assert.equal(left.rows.length, WORKSPACES - 3_000 * (round + 1))
    }
    assert.equal(new Set(edges).size, 4)
    assert.equal((await drain(pool, { batchSize: 3_000 })).flushed, WORKSPACES - 12_000)
  })
}

/** While this snapshot is held, VACUUM removes no flushed mark. */
async function withHolder(host: IdHost, ids: readonly string[]) {
  const database = await hostDatabase(host, { others: ids })
  const holder = await database.connect()
  await holder.query('BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY')
  await holder.query('SELECT count(*) FROM pending_usage_witness')
  return database.pool
}

/** Stores one mark of each workspace in one closed period. */
async function closedMarks(
  pool: { query(sql: string, values: unknown[]): Promise<unknown> },
  { idType }: IdHost,
  ids: readonly string[],
  ago: number,
): Promise<void> {
  await pool.query(
    `INSERT INTO pending_usage (period_end, workspace_id, source)
    SELECT date_trunc('minute', now()) - interval '1 minute' - $2 * interval '1 second', id, 'ssh'
    FROM unnest($1::${idType}[]) AS id`,
    [ids, ago],
  )
}
