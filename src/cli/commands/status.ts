import { explainPrivilegeError } from '../../access/refusal.ts'
import { type FailingFlushes, failingFlushes } from '../../activity/failing-flushes.ts'
import { type Health, usageHealth } from '../../activity/health.ts'
import { type LastFlush, lastFlush } from '../../activity/last-flush.ts'
import type { Problem, Severity } from '../../activity/problem.ts'
import { type RefusedWorkspaces, refusedWorkspaces } from '../../activity/refused.ts'
import { type PendingStatus, pendingStatus } from '../../activity/status.ts'
import { cause } from '../../activity/words.ts'
import type { Queryable } from '../../database/connection.ts'
import { whatever } from '../../options.ts'
import { type AdoptedTable, adoptedTable, describeTable } from '../../schema/adopted-table.ts'
import type { Command } from '../command.ts'
import { type DatabaseOptions, databaseOptions, withPool } from '../options/database-option.ts'
import { healthOptions, type VerdictOptions, verdictOptions } from '../options/health-options.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { numberAllowedBy } from '../options/parsers.ts'
import { VariableOption } from '../options/variable-option.ts'
import { count, describeFlush } from '../output/count.ts'
import { printable } from '../output/printable.ts'
import { formatTime } from '../output/time.ts'
import type { Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions, VerdictOptions {
  check?: Severity
}

/** All that the command shows. Without a verdict, nothing else is known. */
interface Status {
  health: Health
  pending: PendingStatus | null
  last: LastFlush | null
  failing: FailingFlushes | null
  refused: RefusedWorkspaces | null
  /** Null if there is none. */
  workspaces: AdoptedTable | null
}

const LAG_SECONDS = whatever(
  'a number of seconds from 0',
  value => Number.isFinite(value) && Number(value) >= 0,
)

/** The most refused workspaces in the text, and in the JSON. */
const SHOWN_REFUSED = { text: 3, json: 1_000 }

export const statusCommand: Command<Options> = {
  options: () => [
    ...databaseOptions(),
    new VariableOption(
      '--check [severity]',
      'fail (exit code 1) if anything is wrong, for container probes',
      'WORKSPACE_USAGE_CHECK',
    )
      .choices(['warning', 'critical'])
      .preset('warning'),
    new VariableOption(
      '--max-lag <seconds>',
      'fail (exit code 1) if the lag is above this, for health checks and alerts',
      'WORKSPACE_USAGE_MAX_LAG',
    ).argParser(numberAllowedBy(LAG_SECONDS)),
    ...verdictOptions(),
    jsonOption(),
  ],
  notes: `Exits with 1 if flushes fail, or if the lag is above --max-lag. With --check it
exits with 1 if the verdict names a problem, and prints each on standard error;
with --check critical, only those that are critical.`,
  run: async (terminal, { json, check, ...options }) => {
    const limit = json ? SHOWN_REFUSED.json : SHOWN_REFUSED.text
    const status = await withPool(options, async pool => {
      try {
        return await statusOf(pool, options, limit, check !== undefined)
      } catch (error) {
        throw await explainPrivilegeError(pool, error, 'worker')
      }
    })
    if (json) terminal.printJson(asJson(status))
    else terminal.print(describe(status))
    const alarmed =
      check === undefined ? tellsFailure(terminal, status) : tellsProblems(terminal, status, check)
    return tellsLag(terminal, status, options.maxLag) || alarmed ? 1 : 0
  },
}

/** @param lenient Whether a database that gives no verdict is one, and not an error. */
async function statusOf(
  pool: Queryable,
  options: VerdictOptions,
  limit: number,
  lenient: boolean,
): Promise<Status> {
  const health = await usageHealth(pool, healthOptions(options))
  const { lastFlush: last, failing } = health
  if (health.pending !== null) {
    return {
      health,
      pending: health.pending,
      last,
      failing,
      refused: await refusedWorkspaces(pool, { limit }),
      workspaces: await adoptedTable(pool),
    }
  }
  if (lenient) return { health, pending: null, last, failing, refused: null, workspaces: null }
  return {
    health,
    pending: await pendingStatus(pool),
    last: await lastFlush(pool),
    failing: await failingFlushes(pool),
    refused: await refusedWorkspaces(pool, { limit }),
    workspaces: await adoptedTable(pool),
  }
}

function asJson({ health, pending, last, failing, refused, workspaces }: Status): unknown {
  const { lagSeconds = null, ...marks } = pending ?? {}
  const { ok, critical, problems, completeSince, lastResetReason } = health
  return {
    pending: pending && marks,
    lagSeconds,
    lastFlush: last,
    failing,
    refused,
    workspaces,
    completeSince,
    lastResetReason,
    health: { ok, critical, problems },
  }
}

function describe({ health, pending, last, refused, workspaces }: Status): string {
  const flushed = last && `${formatTime(last.completedAt)}: ${describeFlush(last)}`
  return [
    ...(pending === null ? [] : [...describePending(pending), `last flush  ${flushed ?? 'none'}`]),
    ...(workspaces?.view ? [`table       ${describeTable(workspaces)}`] : []),
    ...describeLoss(health),
    ...describeHealth(health),
    ...(refused === null ? [] : describeRefused(refused)),
  ].join('\n')
}

function describePending(pending: PendingStatus): string[] {
  const { open, closed, held, awaited, until, lagSeconds } = pending
  const aside = [held > 0 && `${held} held`, awaited > 0 && `${awaited} awaited`]
  const marks = [...aside, pending.refused > 0 && `${pending.refused} refused`].filter(part => part !== false)
  return [
    `pending     ${count(open, 'mark')} open, ${closed} closed`,
    ...(marks.length > 0 ? [`set aside   ${marks.join(', ')}`] : []),
    ...(until > 0 ? [`in use      ${count(until, 'mark')} until a time ahead`] : []),
    `lag         ${lagSeconds.toFixed(1)} s`,
  ]
}

/** It stays, longer than the verdict calls it a problem, because idle times are longer. */
function describeLoss({ completeSince, lastResetReason, resets }: Health): string[] {
  if (completeSince === null) return []
  const by = resets > 0 && lastResetReason !== null ? `, by ${cause(lastResetReason)}` : ''
  return [`complete    since ${formatTime(completeSince)}; marks were lost before${by}`]
}

function describeHealth({ problems }: Health): string[] {
  if (problems.length === 0) return ['health      ok']
  return problems.map(({ severity, ...problem }) => `health      ${severity}: ${describeProblem(problem)}`)
}

function describeProblem({ code, message, remedy }: Omit<Problem, 'severity'>): string {
  return inLine(`${code}: ${message} ${remedy}`)
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

/** Says on standard error that flushes fail. Returns whether they do. */
function tellsFailure(terminal: Terminal, { failing }: Status): boolean {
  if (failing === null) return false
  const { since, attempts, lastAt, message } = failing
  terminal.tell(
    `error: flushes fail since ${formatTime(since)}, ${count(attempts, 'time')}, the last at ${formatTime(lastAt)}: ` +
      inLine(message),
  )
  return true
}

/** Says on standard error what the verdict names, from a severity on. Returns whether it names anything. */
function tellsProblems(terminal: Terminal, { health }: Status, least: Severity): boolean {
  const told = health.problems.filter(({ severity }) => least === 'warning' || severity === 'critical')
  for (const problem of told) terminal.tell(describeProblem(problem))
  return told.length > 0
}

/** Says on standard error that the lag is above its limit. Returns whether it is. */
function tellsLag(terminal: Terminal, { pending }: Status, maxLag: number | undefined): boolean {
  if (maxLag === undefined || pending === null || pending.lagSeconds <= maxLag) return false
  terminal.tell(
    `error: the lag is ${pending.lagSeconds.toFixed(1)} s, above ${maxLag} s. Does a worker run? Look at its log.`,
  )
  return true
}
