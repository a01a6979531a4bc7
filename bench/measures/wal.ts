import type pg from 'pg'
import { atMost, type Measure, type Result, row, type Stage, summary } from '../measure.ts'
import { walPosition } from '../support/costs.ts'
import { withPool } from '../support/database.ts'

const ROUNDS = 3

/** A mark of a table that survives a crash. */
const LOGGED = `CREATE TABLE bench_logged (
  period_end timestamptz DEFAULT usage_period_end(), workspace_id uuid REFERENCES workspaces,
  PRIMARY KEY (period_end, workspace_id))`

const STATEMENTS = {
  // The pages are written for the first time since the checkpoint here, which costs whole pages. It does not count.
  warmUp: 'UPDATE workspaces SET last_used_at = now() WHERE id = $1',
  first: 'INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING',
  repeat: 'INSERT INTO pending_usage (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING',
  logged: 'INSERT INTO bench_logged (workspace_id) VALUES ($1) ON CONFLICT DO NOTHING',
  update: 'UPDATE workspaces SET last_used_at = now() WHERE id = $1',
}
type Name = keyof typeof STATEMENTS

/** What a mark writes to the log of the database, which every standby and backup reads. */
export const wal: Measure = {
  name: 'wal',
  title: 'WAL of a mark',
  run: stage =>
    withPool(stage.million, async pool => {
      await pool.query(LOGGED)
      try {
        return await measure(stage, pool)
      } finally {
        await pool.query('DROP TABLE bench_logged; TRUNCATE ONLY pending_usage')
      }
    }),
}

async function measure({ scaled, progress }: Stage, pool: pg.Pool): Promise<Result> {
  const count = scaled(2_000, 50)
  const { rows } = await pool.query<{ id: string }>('SELECT id FROM shuffled WHERE place <= $1', [count])
  const names = Object.keys(STATEMENTS) as Name[]
  const bytes = Object.fromEntries(names.map(name => [name, [] as number[]])) as Record<Name, number[]>
  const rounds = scaled(ROUNDS, 2)
  progress(`${rounds} rounds of ${count} ids`)
  for (let round = 0; round < rounds; round++) {
    await pool.query('TRUNCATE ONLY pending_usage; TRUNCATE bench_logged')
    for (const name of names) {
      const before = await walPosition(pool)
      await Promise.all(rows.map(({ id }) => pool.query(STATEMENTS[name], [id])))
      bytes[name].push(((await walPosition(pool)) - before) / count)
    }
  }
  const of = (name: Name) => summary(bytes[name])
  return {
    rows: [
      row('a mark of a new id, in a statement of its own', 'bytes', of('first')),
      row('a repeat within the period', 'bytes', of('repeat')),
      row('the same table LOGGED, with a foreign key', 'bytes', of('logged')),
      row('UPDATE … WHERE id = $1', 'bytes', of('update')),
    ],
    limits:
      'The record of the commit alone: an UNLOGGED table writes no other. A tracker sends thousands of marks in one ' +
      'statement, so it writes less than a byte for each. The price is that a crash of PostgreSQL empties the table. No ' +
      'figure holds the first write of a page after a checkpoint, which writes the whole page.',
    targets: [
      atMost('a mark', Math.round(of('first').median), 40, 'bytes'),
      // Now and then a process of the server writes a record of its own, or a period ends.
      atMost('a repeat', of('repeat').min, 0, 'bytes'),
    ],
  }
}
