import type { Option } from 'commander'
import type { HttpPort } from '../../http/http-port.ts'
import type { Logger } from '../../logger.ts'
import { DEFAULT_FLUSH_INTERVAL_SECONDS } from '../../worker/flush-interval.ts'
import { startFlushWorker } from '../../worker/worker.ts'
import { DEFAULT_FLUSH_TIMEOUT_SECONDS, WORKER_OPTIONS } from '../../worker/worker-options.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions } from '../options/database-option.ts'
import {
  batchSizeOption,
  historyDaysOption,
  sourcesOption,
  unknownAfterOption,
} from '../options/flush-options.ts'
import { healthOptions } from '../options/health-options.ts'
import { type HttpOptions, httpOptions, httpPort } from '../options/http-options.ts'
import { createLogger, logLevelOption } from '../options/log-options.ts'
import { numberAllowedBy } from '../options/parsers.ts'
import { VariableOption } from '../options/variable-option.ts'
import { exitCodeOf } from '../terminal.ts'

/** The wait of `--wait` without a number: longer than most servers need, short enough to be noticed. */
const DEFAULT_WAIT_SECONDS = 600

interface Options extends DatabaseOptions, HttpOptions {
  flushInterval: number
  flushTimeout: number
  batchSize: number
  sources: boolean
  historyDays: number
  unknownAfter: number
  poll?: number
  wait: number
  logLevel: string
}

export const workerCommand: Command<Options> = {
  options: () => [
    ...databaseOptions(),
    flushIntervalOption(),
    flushTimeoutOption(),
    batchSizeOption(),
    sourcesOption(),
    historyDaysOption(),
    unknownAfterOption(),
    pollOption(),
    waitOption(),
    ...httpOptions(),
    logLevelOption('info'),
  ],
  notes: `After the first SIGINT or SIGTERM the worker finishes the flush that is
running, and ends with 0. A second one ends it at once.`,
  run: async (terminal, options) => {
    const {
      databaseUrl,
      schema,
      flushInterval,
      flushTimeout,
      batchSize,
      sources,
      historyDays,
      unknownAfter,
      poll,
      wait,
      logLevel,
    } = options
    const logger = createLogger(logLevel, terminal.stdout)
    const signalled = terminal.signal()
    await using port = await openPort(options, logger)
    // A process that waits does what it should. A restart would only let it wait anew.
    if (wait > 0) port?.answersFor({ liveness: async () => ({ alive: true, reason: null }) })
    const ending = new AbortController()
    const starting = startFlushWorker({
      database: databaseUrl,
      ...(schema !== undefined && { schema }),
      logger,
      flushIntervalSeconds: flushInterval,
      flushTimeoutSeconds: flushTimeout,
      batchSize,
      sources,
      historyDays,
      unknownAfterSeconds: unknownAfter,
      ...(poll !== undefined && { pollSeconds: poll }),
      waitSeconds: wait,
      signal: ending.signal,
      health: healthOptions(options),
    })
    const worker = await Promise.race([starting, signalled])
    if (typeof worker === 'string') {
      ending.abort()
      starting.catch(() => {})
      return exitCodeOf(worker)
    }
    port?.answersFor(worker)
    logger.info({ flushIntervalSeconds: flushInterval, batchSize, sources }, 'worker started')
    const signal = await Promise.race([signalled, terminal.unread])
    if (!signal) terminal.tell('error: nobody reads standard output any more, and it is the log')
    logger.info({ signal }, 'stopping after the flush that is running; a second signal ends at once')
    const stopping = Promise.all([port?.close(), worker.stop()]).then(() => undefined)
    const second = await Promise.race([terminal.signal(), stopping])
    if (second) return exitCodeOf(second)
    logger.info({}, 'worker stopped')
    return signal ? 0 : 1
  },
}

/** Opens the port before the worker starts. If it can't be had, no worker starts. */
async function openPort(options: Options, logger: Logger): Promise<HttpPort | undefined> {
  const wanted = httpPort(options)
  if (wanted === null) return undefined
  // A worker without a port needs none of what this loads.
  const { openHttpPort } = await import('../../http/http-port.ts')
  const port = await openHttpPort({
    ...wanted,
    database: options.databaseUrl,
    schema: options.schema,
    logger,
  })
  logger.info({ url: port.url, dashboard: wanted.dashboard !== null }, 'HTTP port open')
  return port
}

function flushIntervalOption(): Option {
  return new VariableOption(
    '--flush-interval <seconds>',
    'time between flushes: 1 to 59, or whole minutes that divide an hour',
    'WORKSPACE_USAGE_FLUSH_INTERVAL',
  )
    .argParser(numberAllowedBy(WORKER_OPTIONS.flushIntervalSeconds))
    .default(DEFAULT_FLUSH_INTERVAL_SECONDS)
}

function flushTimeoutOption(): Option {
  return new VariableOption(
    '--flush-timeout <seconds>',
    'the server cancels a flush that takes longer',
    'WORKSPACE_USAGE_FLUSH_TIMEOUT',
  )
    .argParser(numberAllowedBy(WORKER_OPTIONS.flushTimeoutSeconds))
    .default(DEFAULT_FLUSH_TIMEOUT_SECONDS)
}

function pollOption(): Option {
  return new VariableOption(
    '--poll <seconds>',
    'how often an idle worker asks for jobs (default: 5, below one-minute intervals 0.5); flushes may be late by as much',
    'WORKSPACE_USAGE_POLL',
  ).argParser(numberAllowedBy(WORKER_OPTIONS.pollSeconds))
}

function waitOption(): Option {
  return new VariableOption(
    '--wait [seconds]',
    `how long to wait at the start for a database that is not there, not migrated or not granted yet; without a number ${DEFAULT_WAIT_SECONDS}`,
    'WORKSPACE_USAGE_WORKER_WAIT',
  )
    .argParser(numberAllowedBy(WORKER_OPTIONS.waitSeconds))
    .preset(String(DEFAULT_WAIT_SECONDS))
    .default(0, 'no wait')
}
