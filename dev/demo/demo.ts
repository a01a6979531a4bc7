import { parseArgs, styleText } from 'node:util'
import { pendingStatus } from '../../src/activity/status.ts'
import { createPool } from '../../src/database/pool.ts'
import type { Logger } from '../../src/logger.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { startEmbeddedPostgres } from '../postgres/embedded-postgres.ts'
import { startDashboard } from './dashboard.ts'
import { type DemoUse, startDemoUse } from './demo-use.ts'

/*
 * `npm start`: all of it on live data, until Ctrl-C. Without DATABASE_URL, on a PostgreSQL of its own that is gone
 * afterwards, with made-up use and periods of 5 s; with it, on that database as it is, and with made-up use only if
 * asked (`npm start -- --demo`).
 */

const PERIOD_SECONDS = 5
const FLUSH_INTERVAL_SECONDS = 5

const { values } = parseArgs({
  options: {
    demo: { type: 'boolean' },
    'dashboard-port': { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  console.log('usage: npm start -- [--demo] [--dashboard-port <port>]')
  console.log('With DATABASE_URL set, that database is used, and use is made up only with --demo.')
  process.exit(0)
}

await using cleanUp = new AsyncDisposableStack()
const interrupted = new Promise<void>(resolve => {
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => {
      resolve()
      process.once(signal, () => process.exit(130))
    })
  }
})

const own = process.env.DATABASE_URL === undefined
if (own) say('starting PostgreSQL …')
const connectionString =
  process.env.DATABASE_URL ?? cleanUp.use(await startEmbeddedPostgres()).connectionString
const pool = createPool(connectionString, { applicationName: 'workspace-usage demo', max: 5 })
cleanUp.defer(() => pool.end())

const { applied } = await migrate({ connectionString })
say(applied.length > 0 ? `migrated: ${applied.join(', ')}` : 'the schema is up to date')
if (own) await shortenPeriods()

const dashboard = cleanUp.use(await startDashboard(connectionString, Number(values['dashboard-port'] ?? 0)))
say(`dashboard: ${styleText('cyan', dashboard.url)}`)
if (own) say(`database:  ${styleText('cyan', connectionString)}`)
say(`look at it: ${styleText('cyan', lookAtIt(own ? connectionString : '$DATABASE_URL'))}`)

let use: DemoUse | undefined
const logger: Logger = { debug: tell, info: tell, warn: warn, error: warn }
cleanUp.use(
  await startFlushWorker({
    database: connectionString,
    logger,
    flushIntervalSeconds: FLUSH_INTERVAL_SECONDS,
  }),
)
if (own || values.demo) {
  use = await startDemoUse(pool, logger)
  cleanUp.defer(() => use!.stop())
}
say(`flushing every ${FLUSH_INTERVAL_SECONDS} s; Ctrl-C stops everything`)
await interrupted
say('stopping …')

/** Only on a database that is thrown away: elsewhere the length of a period is the operator's. */
async function shortenPeriods(): Promise<void> {
  const { rows } = await pool.query(
    `SELECT pg_get_functiondef('usage_period_end()'::regprocedure) AS definition`,
  )
  const { definition } = rows[0] as { definition: string }
  await pool.query(definition.replace('/ 30) + 1) * 30', `/ ${PERIOD_SECONDS}) + 1) * ${PERIOD_SECONDS}`))
}

function lookAtIt(url: string): string {
  return `psql "${url}" -c 'SELECT * FROM workspace_activity ORDER BY last_used_at DESC NULLS LAST LIMIT 10'`
}

async function tell(fields: object, message: string): Promise<void> {
  const {
    flushed = 0,
    updated = 0,
    durationMs,
  } = fields as { flushed?: number; updated?: number; durationMs?: number }
  if (durationMs === undefined) return say(message)
  const pending = await pendingStatus(pool).catch(() => undefined)
  const marks = use?.counts()
  say(
    [
      message === 'nothing to flush'
        ? message
        : `flushed ${flushed} marks, ${styleText('green', `${updated} workspaces updated`)}`,
      `in ${durationMs} ms`,
      pending &&
        `(pending: ${pending.open} open, ${pending.closed} closed; lag ${pending.lagSeconds.toFixed(1)} s)`,
      marks && `after ${marks.marked} calls of mark(), ${marks.stored} rows`,
    ]
      .filter(part => part !== undefined)
      .join(' '),
  )
}

function warn(fields: object, message: string): void {
  const { err } = fields as { err?: Error }
  say(styleText('red', err ? `${message}: ${err.message}` : message))
}

function say(line: string): void {
  console.log(`${styleText('dim', new Date().toISOString().slice(11, 19))}  ${line}`)
}
