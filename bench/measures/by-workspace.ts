import type pg from 'pg'
import { flush } from '../../src/flush/flush.ts'
import { alternate, type Measure, type Result, type Row, row, type Stage } from '../measure.ts'
import { withPool } from '../support/database.ts'
import { RandomIds, storeDueMarks } from '../support/ids.ts'
import { timed } from '../support/timing.ts'

const ROUNDS = 7
const SIZES = [1_500, 10_000]

/** One row per workspace, and the flush that anybody would write for it. */
const TABLE =
  'CREATE UNLOGGED TABLE bench_pending (workspace_id uuid PRIMARY KEY, used_at timestamptz DEFAULT now())'
const FLUSH = `
  WITH due AS (DELETE FROM bench_pending RETURNING workspace_id, used_at)
  UPDATE workspaces SET last_used_at = used_at FROM due WHERE id = workspace_id`

/** The flush of the simplest design: one row per workspace. */
export const byWorkspace: Measure = {
  name: 'by-workspace',
  title: 'A flush, beside DELETE … RETURNING from a table with one row per workspace',
  run: stage =>
    withPool(stage.million, async pool => {
      await pool.query(TABLE)
      try {
        return await measure(stage, pool)
      } finally {
        await pool.query('DROP TABLE bench_pending; TRUNCATE ONLY pending_usage')
      }
    }),
}

async function measure({ workspaces, scaled, progress }: Stage, pool: pg.Pool): Promise<Result> {
  const ids = new RandomIds(pool, workspaces)
  const rows: Row[] = []
  for (const size of SIZES) {
    const count = scaled(size, 10)
    const rounds = scaled(ROUNDS, 1)
    progress(`${count.toLocaleString('en')} rows, ${rounds} rounds`)
    const times = await alternate(
      rounds,
      {
        async theirs() {
          await pool.query('INSERT INTO bench_pending SELECT unnest($1::uuid[])', [await ids.take(count)])
          // The planner knows how many rows there are, as after an autovacuum at the right moment.
          await pool.query('VACUUM ANALYZE bench_pending')
          return await timed(() => pool.query(FLUSH))
        },
        async ours() {
          await pool.query('VACUUM pending_usage')
          await storeDueMarks(pool, await ids.take(count))
          return await timed(() => flush(pool, { batchSize: count, sources: false }))
        },
      },
      { warmUps: scaled(1, 0) },
    )
    const group = `${size.toLocaleString('en')} marks`
    rows.push({ ...row(`${group}: DELETE … RETURNING`, 'ms', times.theirs), group })
    rows.push({ ...row(`${group}: flush without sources`, 'ms', times.ours), group })
  }
  return {
    rows,
    limits:
      'The flush of one row per workspace is one join and cheaper. Its price is paid by the services: a mark of a ' +
      'workspace that is being flushed waits until that transaction ends, and the flush waits for a workspace that the ' +
      'application holds, with all marks behind it. `mark-latency` shows both.',
    targets: [],
  }
}
