import type { ApplicationTask } from '../load/application.ts'
import { type Cores, pinServer } from '../load/cores.ts'
import { duringDrain, idly } from '../load/during.ts'
import type { Latencies } from '../load/open-loop.ts'
import { forgetMarks, storeClosedMarks } from '../load/pending.ts'
import { alternate, atLeast, atMost, type Measure, row, type Stage } from '../measure.ts'
import { SOURCE, withPool } from '../support/database.ts'

const DRAINED = 200_000
const IDLE_SECONDS = 4
const ROUNDS = 2

/** One row for each workspace that is pending: the simplest table that anybody would make first. */
const BY_WORKSPACE = 'bench_by_workspace'
const DRAIN_BY_WORKSPACE = `WITH due AS (DELETE FROM ${BY_WORKSPACE} RETURNING workspace_id)
  UPDATE workspaces SET last_used_at = now() FROM due WHERE id = workspace_id`

/** Whether a mark notices a drain, here and in a table with one row per workspace. */
export const markLatency: Measure = {
  name: 'mark-latency',
  title: 'Marks during a drain, beside a table with one row per workspace',
  async run(stage) {
    await using cores = await pinServer(stage.server)
    const found = await measure(stage, cores)
    const [idle, ours, byWorkspace] = [found.idle.median, found.ours.median, found.byWorkspace.median]
    return {
      rows: [
        row('p99 of a mark, no drain', 'ms', found.idle),
        row('p99 of a mark, during a drain', 'ms', found.ours),
        row('p99 of a mark, one row per workspace, during DELETE … RETURNING', 'ms', found.byWorkspace),
      ],
      limits:
        '2,000 marks a second over 8 connections, each timed from the moment at which it should have been sent. Marks ' +
        'go to the open period and a flush takes closed ones, so they meet on no row: what is left is the time on the ' +
        "server's core. With one row per workspace, a mark of a workspace that is being flushed waits for the whole " +
        'flush, and soon all connections wait. That table is simpler, and its drain is one plain statement. In small ' +
        `batches it would wait less, and meet the flush as often. ${cores.said}`,
      targets: [
        atMost('p99 of a mark during a drain, to that without', ours / idle, 3, 'times'),
        atLeast('p99 with one row per workspace, to ours', byWorkspace / ours, 50, 'times'),
      ],
      chart: {
        kind: 'bar',
        title: 'A mark during a drain',
        subtitle: '99th percentile at 2,000 marks a second. The scale is logarithmic. Less is better.',
        unit: 'milliseconds',
        log: true,
        categories: ['ours, during a drain', 'ours, no drain', 'one row per workspace, during its drain'],
        series: [{ name: 'p99', values: [ours, idle, byWorkspace] }],
        file: 'mark-latency',
      },
    }
  },
}

async function measure({ million, scaled, progress }: Stage, cores: Cores) {
  const marks = scaled(DRAINED, 20)
  const load = (table: string, columns: string, values: string): ApplicationTask => ({
    connectionString: million,
    statement: `INSERT INTO ${table} (${columns}) VALUES (${values}) ON CONFLICT DO NOTHING`,
    ids: marks,
    perSecond: 2_000,
    connections: 8,
  })
  const ours = load('pending_usage', 'workspace_id, source', `$1, '${SOURCE}'`)
  const byWorkspace = load(BY_WORKSPACE, 'workspace_id', '$1')
  const p99 = ({ p99 }: Latencies) => p99
  return await withPool(million, async pool => {
    await pool.query(`CREATE UNLOGGED TABLE ${BY_WORKSPACE} (workspace_id uuid PRIMARY KEY)`)
    try {
      return await alternate(ROUNDS, {
        async idle() {
          progress('no drain')
          return p99(await idly(cores, ours, IDLE_SECONDS * scaled(1, 0.2)))
        },
        async ours() {
          progress('during a drain')
          await storeClosedMarks(million, marks)
          return p99(await duringDrain(cores, ours, {}))
        },
        async byWorkspace() {
          progress('one row per workspace')
          await forgetMarks(pool)
          await pool.query(`TRUNCATE ${BY_WORKSPACE}`)
          await pool.query(`INSERT INTO ${BY_WORKSPACE} SELECT id FROM shuffled WHERE place <= $1`, [marks])
          await pool.query(`VACUUM (ANALYZE) ${BY_WORKSPACE}`)
          await pool.query('CHECKPOINT')
          return p99(await duringDrain(cores, byWorkspace, { statement: DRAIN_BY_WORKSPACE }))
        },
      })
    } finally {
      await forgetMarks(pool)
      await pool.query(`DROP TABLE ${BY_WORKSPACE}`)
    }
  })
}
