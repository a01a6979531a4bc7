import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import type pg from 'pg'
import { startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { type Measure, row, summary } from '../measure.ts'
import { builtProgram } from '../support/built.ts'
import { withBenchDatabase, withPool } from '../support/database.ts'

const SECONDS = 60

/** The statements that are named. The others are one row. */
const SHOWN = 8

/** These travel with the statement that they are for, mostly in one message. */
const FRAME = /^(BEGIN|COMMIT|SET|SAVEPOINT|RELEASE)\b/

const SETTLE_SECONDS = 15
const STATISTICS = { shared_preload_libraries: 'pg_stat_statements' }

/** What one worker with its defaults asks of the database, when there is nothing to flush. */
export const idleWorker: Measure = {
  name: 'idle-worker',
  title: 'Statements of an idle worker',
  long: true,
  async run({ scaled, progress }) {
    progress('building the package')
    const program = await builtProgram()
    await using server = await startEmbeddedPostgres({ settings: STATISTICS })
    const seconds = SECONDS * scaled(1, 0.2)
    const found = await withBenchDatabase(server.connectionString, connectionString =>
      withPool(connectionString, async pool => {
        await pool.query('CREATE EXTENSION pg_stat_statements')
        return await statements(pool, program, connectionString, seconds, progress)
      }),
    )
    const perMinute = (calls: number) => summary([(calls / seconds) * 60])
    const sum = (some: readonly Statement[]) => some.reduce((calls, one) => calls + one.calls, 0)
    const shown = found.slice(0, SHOWN)
    if (found.length > SHOWN) shown.push({ query: 'all others', calls: sum(found.slice(SHOWN)) })
    const minute = 'statements/min'
    return {
      rows: [
        row('all', minute, perMinute(sum(found)), 'with those that begin, end or limit a transaction'),
        row('all but those', minute, perMinute(sum(found.filter(({ query }) => !FRAME.test(query))))),
        ...shown.map(({ query, calls }) => row(query, minute, perMinute(calls))),
      ],
      limits:
        'One worker with its defaults: a flush each minute, and a question for jobs every five seconds, so that a job that ' +
        'somebody sends does not wait for long. The next batch of a chain waits for no question. A longer `--poll` asks ' +
        'less. pg-boss adds its upkeep and its cron, each in a transaction of its own.',
      targets: [],
    }
  },
}

interface Statement {
  query: string
  calls: number
}

/** Counts the statements of a worker that has flushed and settled. The most frequent comes first. */
async function statements(
  pool: pg.Pool,
  program: string,
  connectionString: string,
  seconds: number,
  progress: (step: string) => void,
): Promise<Statement[]> {
  const env = { ...process.env, DATABASE_URL: connectionString }
  const worker = spawn(process.execPath, [program, 'worker', '--log-level', 'warn'], {
    env,
    stdio: 'inherit',
  })
  const exit = once(worker, 'exit')
  try {
    progress('letting a worker settle')
    await sleep((SETTLE_SECONDS * seconds * 1_000) / SECONDS)
    progress(`counting for ${seconds} s`)
    await pool.query('SELECT pg_stat_statements_reset()')
    await sleep(seconds * 1_000)
    if (worker.exitCode !== null) throw new Error(`the worker ended with ${worker.exitCode}`)
    const { rows } = await pool.query<Statement>(
      `SELECT left(regexp_replace(query, '\\s+', ' ', 'g'), 70) AS query, sum(calls)::integer AS calls
      FROM pg_stat_statements JOIN pg_database d ON d.oid = dbid
      WHERE toplevel AND datname = current_database() AND query NOT LIKE '%pg_stat_statements%'
      GROUP BY 1 ORDER BY calls DESC, query`,
    )
    return rows
  } finally {
    worker.kill('SIGTERM')
    await exit
  }
}
