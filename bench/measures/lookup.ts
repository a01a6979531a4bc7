import { execFileSync } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { forgetMarks, storeClosedMarks } from '../load/pending.ts'
import { atMost, type Measure, row, type Stage, type Summary, summary } from '../measure.ts'
import { createWorkspaces, withBenchDatabase, withPool } from '../support/database.ts'
import { quantile, timed } from '../support/timing.ts'

const PENDING = 100_000
const LOOKUPS = 2_000

/** When a workspace was last used, as everybody asks who wants to know. */
export const lookup: Measure = {
  name: 'lookup',
  title: 'One workspace of workspace_activity, with 100,000 marks pending',
  async run(stage) {
    const { major, million, workspaces, progress } = stage
    const found = [{ major, ...(await measure(stage, million)) }]
    const programs = major === 15 ? null : programs15()
    if (programs !== null) {
      progress('on PostgreSQL 15')
      await using older = await startEmbeddedPostgres({ binDirectory: programs })
      await withBenchDatabase(older.connectionString, async connectionString => {
        await createWorkspaces(connectionString, workspaces)
        found.push({ major: 15, ...(await measure(stage, connectionString)) })
      })
    }
    const label = (version: number) => `a lookup on PostgreSQL ${version}`
    return {
      rows: found.flatMap(({ major, times, p99 }) => [
        row(label(major), 'ms', times),
        row(`99 % of them are below`, 'ms', summary([p99])),
      ]),
      limits:
        'A round trip and a search in each of the indexes. The pending marks of a workspace are looked up too.',
      targets: found.map(({ major, times }) => atMost(label(major), times.median, 1, 'ms')),
      ...(major !== 15 && programs === null && { skipped: "PostgreSQL 15's programs are not installed." }),
    }
  },
}

async function measure(
  { scaled, progress }: Stage,
  connectionString: string,
): Promise<{ times: Summary; p99: number }> {
  progress(`${LOOKUPS.toLocaleString('en')} lookups`)
  await storeClosedMarks(connectionString, scaled(PENDING, 10))
  return await withPool(
    connectionString,
    async pool => {
      const { rows } = await pool.query<{ id: string }>('SELECT id FROM shuffled WHERE place <= $1', [
        scaled(LOOKUPS, 20),
      ])
      const times: number[] = []
      for (const { id } of rows) {
        times.push(
          await timed(() =>
            pool.query({
              name: 'lookup',
              text: 'SELECT last_used_at FROM workspace_activity WHERE workspace_id = $1',
              values: [id],
            }),
          ),
        )
      }
      await forgetMarks(pool)
      return { times: summary(times), p99: quantile(times, 0.99) }
    },
    { max: 1 },
  )
}

/** The directory of PostgreSQL 15's programs: Debian's, or on PATH. Null if it is not installed. */
function programs15(): string | null {
  for (const directory of ['/usr/lib/postgresql/15/bin', ...(process.env.PATH ?? '').split(delimiter)]) {
    try {
      const initdb = realpathSync(join(directory, 'initdb'))
      if (execFileSync(initdb, ['--version'], { encoding: 'utf8' }).includes(' 15.')) return dirname(initdb)
    } catch {
      // It is not there.
    }
  }
  return null
}
