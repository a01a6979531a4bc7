import { spawn } from 'node:child_process'
import { once } from 'node:events'
import type pg from 'pg'
import { forgetMarks } from '../load/pending.ts'
import { alternate, atMost, type Measure, row, summary } from '../measure.ts'
import { builtProgram } from '../support/built.ts'
import { withPool } from '../support/database.ts'
import { timed } from '../support/timing.ts'

/** The same rows in the same order, with the columns that are read. The driver reads them and throws them away. */
const COPY = `COPY (
  SELECT workspace_id, last_used_at, created_at, used_until FROM workspace_activity
  WHERE last_used_at <= now() - interval '1 s' ORDER BY last_used_at, workspace_id
) TO STDOUT`

/** The list of idle workspaces, when all of them are idle. */
export const idleReport: Measure = {
  name: 'idle-report',
  title: '`idle --csv` of all workspaces, beside COPY of the same rows',
  async run({ million, workspaces, scaled, progress }) {
    progress('building the package')
    const program = await builtProgram()
    const rounds = scaled(5, 2)
    const firstRows: number[] = []
    const found = await withPool(
      million,
      async pool => {
        await forgetMarks(pool)
        await pool.query('VACUUM ANALYZE workspaces, pending_usage, set_aside_usage')
        progress(`${rounds} rounds`)
        return await alternate(rounds, {
          copy: () => secondsOfCopy(pool, workspaces),
          async report() {
            const { firstRow, end } = await report(program, million, workspaces)
            firstRows.push(firstRow)
            return end
          },
        })
      },
      { max: 1 },
    )
    const firstRow = summary(firstRows)
    return {
      rows: [
        row('COPY in the order of the list', 's', found.copy, 'without a process of its own'),
        row('the whole report by the command line', 's', found.report, 'from the start of the process'),
        row('its first row', 's', firstRow, 'from the start of the process'),
      ],
      limits:
        'One core of the client formats eight columns for each row. The report is read by pages, so that it holds no ' +
        'snapshot for as long as its reader takes; each page reads all workspaces once. COPY holds one, and sorts once.',
      targets: [
        atMost('first row', firstRow.median, 1, 's'),
        atMost('whole report, to COPY', found.report.median / found.copy.median, 3, 'times'),
      ],
    }
  },
}

async function secondsOfCopy(pool: pg.Pool, workspaces: number): Promise<number> {
  let rows: number | null = 0
  const ms = await timed(async () => {
    rows = (await pool.query(COPY)).rowCount
  })
  if (rows !== workspaces) throw new Error(`COPY has ${rows} of ${workspaces} rows`)
  return ms / 1_000
}

/** Runs the command as a script does, through a pipe. */
async function report(program: string, connectionString: string, workspaces: number) {
  const started = performance.now()
  const passed = () => (performance.now() - started) / 1_000
  const child = spawn(process.execPath, [program, 'idle', '--for', '1s', '--csv'], {
    env: { ...process.env, DATABASE_URL: connectionString },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let lines = 0
  let firstRow = Number.NaN
  child.stdout.on('data', (piece: Buffer) => {
    for (let at = piece.indexOf(10); at >= 0; at = piece.indexOf(10, at + 1)) lines++
    // The first line is the head.
    if (lines > 1 && Number.isNaN(firstRow)) firstRow = passed()
  })
  await once(child, 'close')
  if (lines !== workspaces + 1) throw new Error(`the report has ${lines - 1} of ${workspaces} rows`)
  return { firstRow, end: passed() }
}
