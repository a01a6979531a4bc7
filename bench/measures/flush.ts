import type pg from 'pg'
import { flush } from '../../src/flush/flush.ts'
import {
  alternate,
  atMost,
  type Measure,
  type Result,
  type Row,
  row,
  type Stage,
  type Summary,
  type Target,
} from '../measure.ts'
import { SOURCE, withPool } from '../support/database.ts'
import { RandomIds, storeDueMarks } from '../support/ids.ts'
import { timed } from '../support/timing.ts'

const ROUNDS = 15

/** Each page of a table of a million rows has one of so many random rows. */
const EACH_PAGE = 60_000

const UPDATE = 'UPDATE workspaces SET last_used_at = now() WHERE id = ANY ($1)'
const UPDATE_BY_SOURCE = `UPDATE workspace_usage_day
  SET last_used_at = now(), slots = slots | set_bit(0::bit(288), 100, 1)
  WHERE workspace_id = ANY ($1) AND source = $2 AND day = (now() AT TIME ZONE 'UTC')::date`

/** The four pairs, with what a flush may cost at most, as a multiple of the plain UPDATEs. */
const PAIRS = [
  { marks: 1_500, sources: true, limit: 1.25 },
  { marks: 10_000, sources: true, limit: 1.25 },
  { marks: 1_500, sources: false, limit: 1.4 },
  { marks: 10_000, sources: false, limit: 1.4 },
]

/** What a flush costs beyond the rows that somebody must write anyway. */
export const flushing: Measure = {
  name: 'flush',
  title: 'A flush, beside plain UPDATEs of as many rows of the same tables',
  run: stage =>
    withPool(stage.million, admin =>
      withPool(stage.million, session => measure(stage, admin, session), { max: 1 }),
    ),
}

async function measure(stage: Stage, admin: pg.Pool, session: pg.Pool): Promise<Result> {
  const { workspaces, scaled, progress } = stage
  const ids = new RandomIds(admin, workspaces)
  progress('warming up')
  // The first write of a page after a checkpoint writes the whole page to the WAL. Here that is paid for both sides.
  await admin.query('TRUNCATE ONLY pending_usage; CHECKPOINT')
  await updating(session, await ids.take(scaled(EACH_PAGE)), true)
  const rows: Row[] = []
  const targets: Target[] = []
  const times: Record<'flush' | 'update', Summary>[] = []
  for (const { marks, sources, limit } of PAIRS) {
    const count = scaled(marks, 10)
    const words = `${marks.toLocaleString('en')}, ${sources ? 'with' : 'without'} sources`
    progress(`${words}, ${scaled(ROUNDS, 1)} rounds`)
    const pair = await alternate(
      scaled(ROUNDS, 1),
      {
        async flush() {
          const some = await ids.take(count)
          await admin.query('VACUUM pending_usage')
          await storeDueMarks(admin, some)
          return await timed(() => flushAll(session, count, sources))
        },
        async update() {
          const some = await ids.take(count)
          await admin.query('VACUUM pending_usage')
          return await timed(() => updating(session, some, sources))
        },
      },
      { warmUps: scaled(2, 0) },
    )
    times.push(pair)
    rows.push({ ...row(`plain UPDATEs of ${words}`, 'ms', pair.update), group: words })
    rows.push({ ...row(`flush of ${words}`, 'ms', pair.flush), group: words })
    targets.push(
      atMost(`flush of ${words}, to the UPDATEs`, pair.flush.median / pair.update.median, limit, 'times'),
    )
  }
  const values = (side: 'flush' | 'update') => times.map(pair => pair[side].median)
  return {
    rows,
    limits:
      'Both sides write the same rows of the same tables, each in one transaction over one connection, on disjoint ' +
      'random sets. What a flush does beyond that: it finds the marks of closed periods, waits for no workspace (one that ' +
      'the application holds is set aside), deletes the marks, never moves a time back, ' +
      'tells which ids are unknown, counts by source and notes itself for `status`. The UPDATEs do none of that.',
    targets,
    chart: {
      kind: 'bar',
      title: 'A flush beside plain UPDATEs of the same rows',
      subtitle: 'Random workspaces out of a million, one connection. Less is better.',
      unit: 'milliseconds',
      categories: PAIRS.map(
        ({ marks, sources }) => `${marks.toLocaleString('en')}, ${sources ? 'with' : 'without'} sources`,
      ),
      series: [
        { name: 'flush', values: values('flush') },
        { name: 'plain UPDATEs', values: values('update') },
      ],
      file: 'flush',
    },
  }
}

async function flushAll(session: pg.Pool, count: number, sources: boolean): Promise<void> {
  const { flushed, updated } = await flush(session, { batchSize: count, sources })
  if (flushed !== count || updated !== count)
    throw new Error(`flushed ${flushed} and updated ${updated} of ${count}`)
}

/** Updates the same rows as a flush, in one transaction. */
async function updating(session: pg.Pool, ids: readonly string[], sources: boolean): Promise<void> {
  const client = await session.connect()
  try {
    await client.query('BEGIN')
    const updated = [await client.query(UPDATE, [ids])]
    if (sources) updated.push(await client.query(UPDATE_BY_SOURCE, [ids, SOURCE]))
    await client.query('COMMIT')
    for (const { rowCount } of updated) {
      if (rowCount !== ids.length) throw new Error(`updated ${rowCount} of ${ids.length} rows`)
    }
  } finally {
    client.release()
  }
}
