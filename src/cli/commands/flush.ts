import { setTimeout } from 'node:timers/promises'
import { openPeriodRemaining, pendingStatus } from '../../activity/status.ts'
import { cause } from '../../activity/words.ts'
import type { Connection } from '../../database/connection.ts'
import { type DrainOptions, type DrainResult, drain } from '../../flush/drain.ts'
import type { Refusal } from '../../flush/refusal.ts'
import type { UsageReset } from '../../flush/reset.ts'
import type { ShardsLeft } from '../../flush/shards-left.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import {
  batchSizeOption,
  historyDaysOption,
  sourcesOption,
  unknownAfterOption,
} from '../options/flush-options.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { switchOption } from '../options/variable-option.ts'
import { count, describeFlush } from '../output/count.ts'
import { startProgress } from '../output/progress.ts'
import { formatTime } from '../output/time.ts'
import type { Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions {
  wait: boolean
  batchSize: number
  sources: boolean
  historyDays: number
  unknownAfter: number
}

export const flushCommand: Command<Options> = {
  options: () => [
    ...databaseOptions(),
    switchOption('--wait', 'wait for the open period to close first', 'WORKSPACE_USAGE_WAIT'),
    batchSizeOption(),
    sourcesOption(),
    historyDaysOption(),
    unknownAfterOption(),
    jsonOption(),
  ],
  run: async (terminal, { wait, batchSize, sources, historyDays, unknownAfter, json, ...database }) =>
    await withPool(database, async pool => {
      if (wait) await openPeriodCloses(pool, terminal)
      const started = performance.now()
      const result = await drainVisibly(
        pool,
        {
          batchSize,
          sources,
          history: historyDays > 0,
          unknownAfterSeconds: unknownAfter,
          retryRefused: true,
        },
        terminal,
      )
      const durationMs = Math.round(performance.now() - started)
      if (result.reset) terminal.tell(describeReset(result.reset))
      for (const left of result.shardsLeft ?? []) terminal.tell(describeLeft(left))
      if (json) terminal.printJson({ ...result, durationMs })
      else {
        const effort = `${count(result.flushes, 'flush', 'flushes')}, ${durationMs} ms`
        terminal.print(`${describeFlush(result)} (${effort})`)
        for (const refusal of result.refusals) terminal.tell(describeRefusal(refusal))
      }
      return 0
    }),
}

function describeReset({ reason, completeSince, nodes }: UsageReset): string {
  const where = nodes ? ` on ${nodes.join(', ')}` : ''
  return `warning: pending marks were lost by ${cause(reason)}${where}; use is complete since ${formatTime(completeSince)}`
}

function describeLeft({ node, shards, message }: ShardsLeft): string {
  return `warning: ${count(shards, 'shard', 'shards')} of node ${node} were left, and their marks stay: ${message}`
}

function describeRefusal({ workspaceId, sqlState, message }: Refusal): string {
  const state = sqlState === null ? '' : ` (SQLSTATE ${sqlState})`
  return `refused: workspace ${workspaceId}: ${message}${state}. Its marks are set aside and tried again.`
}

async function openPeriodCloses(connection: Connection, terminal: Terminal): Promise<void> {
  const remaining = await openPeriodRemaining(connection)
  if (terminal.stderr.isTTY) terminal.tell(`the open period closes in ${(remaining / 1_000).toFixed(1)} s`)
  await setTimeout(Math.ceil(remaining) + 1)
}

async function drainVisibly(
  connection: Connection,
  options: DrainOptions,
  terminal: Terminal,
): Promise<DrainResult> {
  const { closed } = await pendingStatus(connection)
  const bar = await startProgress(terminal, 'flushing marks {bar} {value}/{total}', closed)
  let done = 0
  try {
    return await drain(connection, {
      ...options,
      onFlush: ({ flushed, held }) => {
        done += flushed + held
        bar.update(done)
      },
    })
  } finally {
    bar.stop()
  }
}
