import { describeFailure } from '../../src/cli/output/failure.ts'
import { createPool } from '../../src/database/pool.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { setUsagePeriod } from '../../src/schema/period.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { startEmbeddedPostgres } from '../postgres/embedded-postgres.ts'
import { type DemoArguments, demoArguments } from './arguments.ts'
import { listen, startDashboard } from './dashboard.ts'
import { type DemoUse, startDemoUse } from './demo-use.ts'
import { endOfDemo } from './end-of-demo.ts'
import { flushReport } from './flush-report.ts'
import { say, show } from './screen.ts'

/*
 * `npm start` runs everything on live data, until Ctrl-C. Without DATABASE_URL it starts a PostgreSQL of its own, which
 * is gone afterwards, with made-up usage and short periods. With DATABASE_URL it uses that database as it is, and makes
 * up usage only if asked (`npm start -- --demo`).
 */

try {
  await run(demoArguments())
} catch (error) {
  const { text, exitCode } = describeFailure(error)
  console.error(`error: ${text}`)
  process.exitCode = exitCode
}

async function run(told: DemoArguments): Promise<void> {
  const ended = endOfDemo()
  const own = told.databaseUrl === undefined
  await using cleanUp = new AsyncDisposableStack()
  const port = cleanUp.adopt(await listen(told.dashboardPort), server => {
    server.closeAllConnections()
    server.close()
  })
  if (own) say('starting PostgreSQL …')
  const database = told.databaseUrl ?? cleanUp.use(await startEmbeddedPostgres()).connectionString
  const pool = createPool(database, { applicationName: 'workspace-usage demo', max: 5 })
  cleanUp.defer(() => pool.end())
  const { applied } = await migrate({ connectionString: database })
  say(applied.length > 0 ? `migrated: ${applied.join(', ')}` : 'the schema is up to date')
  if (own) await setUsagePeriod(pool, told.period)

  say('The pg-boss dashboard lists the finished flushes:')
  show(cleanUp.use(await startDashboard(database, Promise.resolve(port))).url)
  say('Look at it from another terminal, in this directory:')
  if (own) show(`export DATABASE_URL=${database}`)
  show('npm run -s usage -- status')
  show('npm run -s usage -- doctor')

  let use: DemoUse | undefined
  const logger = flushReport(pool, () => use)
  const flushIntervalSeconds = told.flushInterval
  cleanUp.use(await startFlushWorker({ database, logger, flushIntervalSeconds }))
  if (own || told.demo) use = cleanUp.use(await startDemoUse(pool, logger))
  say(`flushing every ${told.flushInterval} s; Ctrl-C stops everything`)
  say(`stopping: ${await ended}`)
}
