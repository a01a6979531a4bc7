import parsePrometheus from 'parse-prometheus-text-format'
import { type CommandResult, type RunningCommand, startCommand } from './command-line.ts'
import type { TestDatabase } from './database.ts'
import { until } from './poll.ts'

/** A `workspace-usage worker` of this process with a port. */
export interface WorkerWithPort {
  command: RunningCommand
  url: string
  /** Stops it, and waits for its end. A process has one SDK for metrics, so the next worker must not overlap. */
  stop(): Promise<CommandResult>
}

/** Starts a worker that flushes every second, on a free port. Waits until it has started. */
export async function startWorkerWithPort(
  { connectionString }: Pick<TestDatabase, 'connectionString'>,
  args: string[] = [],
  env: Record<string, string> = {},
): Promise<WorkerWithPort> {
  const command = startCommand(['worker', '--flush-interval', '1', '--port', '0', ...args], {
    env: { DATABASE_URL: connectionString, ...env },
  })
  await command.prints(/worker started/, { timeoutMs: 30_000 })
  const stop = () => {
    command.end()
    return command.ended
  }
  return { command, url: await urlOf(command), stop }
}

/** The URL that a worker has logged for its port. */
export async function urlOf(command: RunningCommand): Promise<string> {
  const pattern = /"url":"(http:[^"]+)"/
  await command.prints(pattern)
  return pattern.exec(command.printed)![1]!
}

/** A metric family as `/metrics` tells it. */
export interface Family {
  name: string
  type: string
  metrics: { value?: string; labels?: Record<string, string>; count?: string; sum?: string }[]
}

/** The parser fails if a histogram without labels has its count and sum before its buckets. The format allows both. */
const BUCKETS_LAST = /(?<totals>(?:^\w+_(?:count|sum)\b.*\n)+)(?<buckets>(?:^\w+_bucket\{.*\n)+)/gm

/** Reads `/metrics`. */
export async function readMetrics(url: string): Promise<Family[]> {
  const response = await fetch(new URL('/metrics', url))
  const text = await response.text()
  if (!response.ok) throw new Error(`${response.status}: ${text}`)
  return parsePrometheus(text.replaceAll(BUCKETS_LAST, '$<buckets>$<totals>')) as Family[]
}

/** The value of a metric with these labels, the same ones and no others. Undefined if there is none. */
export function metricValue(
  families: readonly Family[],
  name: string,
  labels: Record<string, string> = {},
): number | undefined {
  const wanted = JSON.stringify(Object.entries(labels).sort())
  const found = families
    .find(family => family.name === name)
    ?.metrics.find(metric => JSON.stringify(Object.entries(metric.labels ?? {}).sort()) === wanted)
  return found?.value === undefined ? undefined : Number(found.value)
}

/** Waits until a metric has a value. */
export async function untilMetric(
  url: string,
  name: string,
  labels: Record<string, string>,
  accept: (value: number) => boolean,
): Promise<void> {
  const question = async () => [metricValue(await readMetrics(url), name, labels)]
  const isThere = ([value]: (number | undefined)[]) => value !== undefined && accept(value)
  await until(`${name} of ${JSON.stringify(labels)} is there`, question, {
    accept: isThere,
    timeoutMs: 20_000,
  })
}
