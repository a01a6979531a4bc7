import { atLeast, atMost, type ChartSpec, row } from '../../bench/measure.ts'
import type { Report } from '../../bench/report/results-page.ts'

/** A chart of two peers. */
export const CHART: ChartSpec = {
  kind: 'bar',
  title: 'Marks & jobs <of> "one" second',
  unit: 'marks per second',
  categories: ['ours', 'UPDATE … WHERE id = $1'],
  series: [{ name: 'marks per second', values: [57_123.4, null] }],
  file: 'marks',
}

/** A run in which each outcome is different: met, missed, in part left out, skipped, failed, and not run. */
export const REPORT: Report = {
  date: '2026-11-26',
  machine: {
    processor: 'A Processor | 3 GHz',
    cores: '2',
    PostgreSQL: '18.4 (embedded)',
    Redis: 'not there',
  },
  workspaces: 1_000_000,
  judged: true,
  outcomes: [
    {
      name: 'marks',
      title: 'Marks',
      seconds: 12.34,
      result: {
        rows: [
          row('ours', 'marks/s', { median: 57_123.4, min: 50_000, max: 60_000, runs: 9 }),
          row('theirs', 'marks/s', { median: 12_000, min: 11_000, max: 13_000, runs: 9 }, 'random ids'),
          {
            ...row('a pair of its own', 'ms', { median: 0.0123, min: 0.01, max: 0.02, runs: 3 }),
            group: 'b',
          },
          { ...row('its other half', 'ms', { median: 0.0369, min: 0.03, max: 0.04, runs: 3 }), group: 'b' },
        ],
        limits: 'The disk.',
        targets: [atLeast('to theirs', 4.76, 4.5, 'times'), atMost('WAL of a mark', 41, 40, 'bytes')],
        chart: CHART,
      },
    },
    {
      name: 'partly',
      title: 'Half a measure',
      seconds: 1,
      result: {
        rows: [row('ours', 'ms', { median: 1, min: 1, max: 1, runs: 1 })],
        limits: '',
        targets: [],
        skipped: 'no redis-server on PATH',
      },
    },
    { name: 'gone', title: 'A program that is missing', seconds: 0, skipped: 'no pgbench on PATH' },
    { name: 'broken', title: 'A failure', seconds: 3, failed: 'relation "x" does not exist' },
  ],
  notRun: [
    { name: 'sizing', title: 'What it costs', long: true },
    { name: 'import', title: 'Import' },
  ],
}
