import { type FailingFlushes, failingFlushes } from '../../activity/failing-flushes.ts'
import { type LastFlush, lastFlush } from '../../activity/last-flush.ts'
import { type RefusedWorkspaces, refusedWorkspaces } from '../../activity/refused.ts'
import { type PendingStatus, pendingStatus } from '../../activity/status.ts'
import { whatever } from '../../options.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOption, withPool } from '../options/database-option.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { numberAllowedBy } from '../options/parsers.ts'
import { VariableOption } from '../options/variable-option.ts'
import { count, describeFlush } from '../output/count.ts'
import { printable } from '../output/printable.ts'
import { formatTime } from '../output/time.ts'
import type { Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions {
  maxLag?: number
}

/** All that the command shows. */
interface Status {
  pending: PendingStatus
  last: LastFlush | null
  failing: FailingFlushes | null
  refused: RefusedWorkspaces
}

const LAG_SECONDS = whatever(
  'a number of seconds from 0',
  value => Number.isFinite(value) && Number(value) >= 0,
)

/** The most refused workspaces in the text, and in the JSON. */
const SHOWN_REFUSED = { text: 3, json: 1_000 }

export const statusCommand: Command<Options> = {
  options: () => [
    databaseOption(),
    new VariableOption(
      '--max-lag <seconds>',
      'fail (exit code 1) if the lag is above this, for health checks and alerts',
      'WORKSPACE_USAGE_MAX_LAG',
    ).argParser(numberAllowedBy(LAG_SECONDS)),
    jsonOption(),
  ],
  notes: 'Exits with 1 if flushes fail, or if the lag is above --max-lag.',
  run: async (terminal, { maxLag, json, ...database }) => {
    const limit = json ? SHOWN_REFUSED.json : SHOWN_REFUSED.text
    const status = await withPool(database, async pool => ({
      pending: await pendingStatus(pool),
      last: await lastFlush(pool),
      failing: await failingFlushes(pool),
      refused: await refusedWorkspaces(pool, { limit }),
    }))
    if (json) terminal.printJson(asJson(status))
    else terminal.print(describe(status))
    return tellsAlarm(terminal, status, maxLag) ? 1 : 0
  },
}

function asJson({ pending: { lagSeconds, ...pending }, last, failing, refused }: Status): unknown {
  return { pending, lagSeconds, lastFlush: last, failing, refused }
}

function describe({ pending, last, refused }: Status): string {
  const { open, closed, held, awaited, lagSeconds } = pending
  const aside = [held > 0 && `${held} held`, awaited > 0 && `${awaited} awaited`]
  const marks = [...aside, pending.refused > 0 && `${pending.refused} refused`].filter(part => part !== false)
  const flushed = last && `${formatTime(last.completedAt)}: ${describeFlush(last)}`
  return [
    `pending     ${count(open, 'mark')} open, ${closed} closed`,
    ...(marks.length > 0 ? [`set aside   ${marks.join(', ')}`] : []),
    `lag         ${lagSeconds.toFixed(1)} s`,
    `last flush  ${flushed ?? 'none'}`,
    ...describeRefused(refused),
  ].join('\n')
}

/** A message of a host's trigger may hold anything. */
const inLine = (message: string) => printable(message.replaceAll(/\s+/g, ' '))

function describeRefused({ total, workspaces }: RefusedWorkspaces): string[] {
  const lines = workspaces.map(({ workspaceId, since, attempts, sqlState, message, nextAttemptAt }) => {
    const code = sqlState === null ? '' : ` (SQLSTATE ${sqlState})`
    const tries = `${count(attempts, 'attempt')} since ${formatTime(since)}, next ${formatTime(nextAttemptAt)}`
    return `refused     ${workspaceId}: ${inLine(message)}${code}; ${tries}`
  })
  const more = total - workspaces.length
  return more > 0 ? [...lines, `            and ${more} more`] : lines
}

/** Says on standard error what needs somebody. Returns whether anything does. */
function tellsAlarm(
  terminal: Terminal,
  { pending: { lagSeconds }, failing }: Status,
  maxLag: number | undefined,
): boolean {
  if (failing) {
    const { since, attempts, lastAt, message } = failing
    terminal.tell(
      `error: flushes fail since ${formatTime(since)}, ${count(attempts, 'time')}, the last at ${formatTime(lastAt)}: ` +
        inLine(message),
    )
  }
  const late = maxLag !== undefined && lagSeconds > maxLag
  if (late) {
    terminal.tell(
      `error: the lag is ${lagSeconds.toFixed(1)} s, above ${maxLag} s. Does a worker run? Look at its log.`,
    )
  }
  return failing !== null || late
}
