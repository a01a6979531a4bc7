import type pg from 'pg'
import { alternate, atLeast, type Measure, type Result, row, type Stage } from '../measure.ts'
import { idOf, withPool } from '../support/database.ts'
import { pgbench } from '../support/pgbench.ts'

const ROUNDS = 7

/** Tables with one row per workspace: what a mark needs at least. */
const TABLES = `
  CREATE UNLOGGED TABLE bench_plain (id uuid PRIMARY KEY);
  CREATE UNLOGGED TABLE bench_by_workspace (workspace_id uuid PRIMARY KEY)`

/** A mark as one statement of SQL, beside what people would write instead. */
export const mark: Measure = {
  name: 'mark',
  title: 'A mark in one statement: pgbench, 8 connections, prepared',
  needs: 'pgbench',
  run: stage =>
    withPool(stage.million, async pool => {
      await pool.query(TABLES)
      try {
        return await measure(stage, pool)
      } finally {
        await pool.query('DROP TABLE bench_plain, bench_by_workspace; TRUNCATE ONLY pending_usage')
      }
    }),
}

async function measure({ million, workspaces, scaled, progress }: Stage, pool: pg.Pool): Promise<Result> {
  const rate = (script: string, transactions: number) =>
    pgbench({ connectionString: million, script, transactions: scaled(transactions, 20) })
  // Each round begins with empty tables, as each period of marks begins with pages of its own.
  const insert = async (table: string, columns: string, conflict = '') => {
    await pool.query(`TRUNCATE ONLY ${table}`)
    return await rate(`INSERT INTO ${table} (${columns}) VALUES (gen_random_uuid()) ${conflict}`, 5_000)
  }
  const update = (ids: number, guard = '') =>
    `\\set n random(1, ${ids})\nUPDATE workspaces SET last_used_at = now() WHERE id = ${idOf(':n')} ${guard}`
  progress(`${ROUNDS} rounds of five statements`)
  const rates = await alternate(
    scaled(ROUNDS, 1),
    {
      ours: () => insert('pending_usage', 'workspace_id', 'ON CONFLICT DO NOTHING'),
      plain: () => insert('bench_plain', 'id'),
      byWorkspace: () => insert('bench_by_workspace', 'workspace_id', 'ON CONFLICT DO NOTHING'),
      update: () => rate(update(workspaces), 1_200),
      guarded: () => rate(update(Math.min(5_000, workspaces), GUARD), 5_000),
    },
    { warmUps: scaled(1, 0) },
  )
  const { ours, plain, byWorkspace } = rates
  return {
    rows: [
      row('a mark of a new id', 'marks/s', ours),
      row('INSERT into an UNLOGGED table with nothing but a uuid primary key', 'marks/s', plain),
      row('one row per workspace, UNLOGGED, ON CONFLICT DO NOTHING', 'marks/s', byWorkspace),
      row('UPDATE … WHERE id = $1 of a random id', 'marks/s', rates.update),
      row(
        "the same with AND last_used_at < now() - interval '30 s', 5,000 hot ids",
        'marks/s',
        rates.guarded,
      ),
    ],
    limits:
      'A mark is one row of three columns and one entry of an index of three columns: period, workspace, source. ' +
      'The guarded UPDATE is as fast on a hot set, because it mostly only ' +
      'reads: it needs no flush and no table beside. It knows no sources, it writes the row of the application and waits ' +
      'for its locks, and each new id costs the whole UPDATE.',
    targets: [
      atLeast('of the INSERT with nothing but a primary key', ours.median / plain.median, 0.85, 'times'),
      atLeast('of the UPDATE of random ids', ours.median / rates.update.median, 4.5, 'times'),
    ],
    chart: {
      kind: 'bar',
      title: 'One mark in one statement',
      subtitle:
        'pgbench, 8 connections, prepared statements, a table of 1,000,000 workspaces. More is better.',
      unit: 'marks per second',
      categories: [
        'workspace-usage: a new id',
        'INSERT of a bare primary key',
        'one row per workspace',
        'UPDATE of a random id',
        'guarded UPDATE, hot ids',
      ],
      series: [
        {
          name: 'marks per second',
          values: [ours, plain, byWorkspace, rates.update, rates.guarded].map(({ median }) => median),
        },
      ],
      file: 'mark',
    },
  }
}

const GUARD = "AND last_used_at < now() - interval '30 s'"
