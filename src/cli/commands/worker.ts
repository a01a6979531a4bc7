import { constants } from 'node:os'
import { Command, Option } from 'commander'
import { DEFAULT_BATCH_SIZE } from '../../flush/flush.ts'
import { startFlushWorker } from '../../worker/worker.ts'
import { type DatabaseOptions, databaseOption } from '../options/database-option.ts'
import { batchSizeOption, sourcesOption } from '../options/flush-options.ts'
import { createLogger, logLevelOption } from '../options/log-options.ts'
import { parseNumber } from '../options/number-option.ts'

interface Options extends DatabaseOptions {
  flushInterval: number
  flushTimeout: number
  batchSize: number
  sources: boolean
  logLevel: string
}

export function workerCommand(): Command {
  return new Command('worker')
    .description('flush on schedule until SIGINT or SIGTERM; logs JSON to standard output')
    .addOption(databaseOption())
    .addOption(
      new Option(
        '--flush-interval <seconds>',
        'between flushes: 1 to 59, or whole minutes that divide an hour',
      )
        .env('WORKSPACE_USAGE_FLUSH_INTERVAL')
        .argParser(parseNumber)
        .default(60),
    )
    .addOption(
      new Option('--flush-timeout <seconds>', 'the server cancels a flush that takes longer')
        .env('WORKSPACE_USAGE_FLUSH_TIMEOUT')
        .argParser(parseNumber)
        .default(10),
    )
    .addOption(batchSizeOption(DEFAULT_BATCH_SIZE))
    .addOption(sourcesOption())
    .addOption(logLevelOption('info'))
    .addHelpText(
      'after',
      '\nThe first SIGINT or SIGTERM finishes the flush in hand and ends with 0; a second one ends at once.',
    )
    .action(async ({ databaseUrl, flushInterval, flushTimeout, batchSize, sources, logLevel }: Options) => {
      const logger = createLogger(logLevel, 1)
      const worker = await startFlushWorker({
        database: databaseUrl,
        logger,
        flushIntervalSeconds: flushInterval,
        flushTimeoutSeconds: flushTimeout,
        batchSize,
        sources,
      })
      logger.info({ flushIntervalSeconds: flushInterval, batchSize, sources }, 'worker started')
      const signal = await firstSignal()
      logger.info({ signal }, 'stopping: finishing the flush in hand; a second signal ends at once')
      process.once('SIGINT', () => process.exit(128 + constants.signals.SIGINT))
      process.once('SIGTERM', () => process.exit(128 + constants.signals.SIGTERM))
      await worker.stop()
      logger.info({}, 'worker stopped')
    })
}

function firstSignal(): Promise<NodeJS.Signals> {
  const { promise, resolve } = Promise.withResolvers<NodeJS.Signals>()
  process.once('SIGINT', resolve)
  process.once('SIGTERM', resolve)
  return promise.finally(() => {
    process.removeListener('SIGINT', resolve)
    process.removeListener('SIGTERM', resolve)
  })
}
