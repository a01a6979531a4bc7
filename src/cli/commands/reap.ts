import { explainPrivilegeError } from '../../access/refusal.ts'
import type { OwnedPool } from '../../database/pool.ts'
import { formatDuration } from '../../duration.ts'
import { WorkspaceUsageError } from '../../errors.ts'
import type { ReapOutcome, ReapResult } from '../../reaper/outcome.ts'
import { reapIdle } from '../../reaper/reap-idle.ts'
import type { StopWorkspace } from '../../reaper/reap-options.ts'
import { runStopProgram } from '../../reaper/stop-program.ts'
import type { Command } from '../command.ts'
import { confirms } from '../confirmation.ts'
import { withPool } from '../options/database-option.ts'
import { type ReapCommandOptions, reapOptions } from '../options/reap-options.ts'
import { count } from '../output/count.ts'
import { UsageError } from '../output/failure.ts'
import { NO_PROGRESS, startProgress } from '../output/progress.ts'
import { formatAge, formatTime } from '../output/time.ts'
import { type ExitCode, exitCodeOf, type Signal, type Terminal } from '../terminal.ts'

export const reapCommand: Command<ReapCommandOptions> = {
  options: reapOptions,
  notes: `Without --run it stops nothing: it lists what would be stopped. With it, the
program gets the id as its last argument and in WORKSPACE_ID, without a shell.
While it runs, the row of the workspace is locked. An exit code other than 0
means that the workspace was not stopped. Nothing is stopped while use is not
known completely; the reason is told, and the exit code is 1.`,
  run: async (terminal, options, programArguments: string[]) => {
    const { run: program, yes, limit } = options
    if (program === undefined) {
      if (yes) throw new UsageError('--yes needs --run')
      if (programArguments.length > 0) throw new UsageError('arguments of a program need --run')
      return await withPool(options, pool => list(terminal, pool, options))
    }
    const warning = `This runs ${program} for up to ${count(limit, 'workspace')} that nobody has used for ${formatDuration(options.for)}.`
    if (!yes && !(await confirms(terminal, warning, '--yes'))) {
      terminal.tell('error: not confirmed; nothing was stopped')
      return 1
    }
    return await withPool(options, pool => stopAll(terminal, pool, options, program, programArguments))
  },
}

async function list(terminal: Terminal, pool: OwnedPool, options: ReapCommandOptions): Promise<ExitCode> {
  const found: ReapOutcome[] = []
  const onOutcome = (outcome: ReapOutcome) => {
    found.push(outcome)
    if (!options.json) terminal.print(lineOf(outcome))
  }
  const stop = () => {}
  const result = await reap(pool, { ...policyOf(options), stop, dryRun: true, onOutcome })
  if (options.json) printJson(terminal, result, found)
  else {
    const more = result.ended === 'limit' ? ' The limit is reached; there may be more.' : ''
    terminal.print(`${count(result.idle, 'workspace')} would be stopped by --run.${more}`)
  }
  return tellRefusals(terminal, result) ? 1 : 0
}

async function stopAll(
  terminal: Terminal,
  pool: OwnedPool,
  options: ReapCommandOptions,
  program: string,
  programArguments: readonly string[],
): Promise<ExitCode> {
  const signals = listenForSignals(terminal)
  const showsLines = !options.json && terminal.stdout.isTTY === true
  const bar = showsLines ? NO_PROGRESS : await startProgress(terminal, 'looked at {value} idle workspaces')
  const found: ReapOutcome[] = []
  const started = { program, arguments: programArguments, output: terminal.stderr }
  let unstartable: UsageError | undefined
  const stop: StopWorkspace = async (_client, workspaceId, facts) => {
    try {
      await runStopProgram(started, workspaceId, AbortSignal.any([facts.signal, signals.kills]))
    } catch (error) {
      if (!(error instanceof WorkspaceUsageError)) {
        unstartable = new UsageError(`--run: ${program} can't be started: ${(error as Error).message}`)
        signals.end()
      }
      throw error
    }
  }
  const onOutcome = (outcome: ReapOutcome) => {
    found.push(outcome)
    bar.update(found.length)
    if (!options.json && unstartable === undefined) printOutcome(terminal, outcome)
  }
  let result: ReapResult
  try {
    result = await reap(pool, { ...policyOf(options), stop, onOutcome, signal: signals.ends })
  } finally {
    bar.stop()
  }
  if (unstartable) throw unstartable
  if (options.json) printJson(terminal, result, found)
  else terminal.print(summaryOf(result))
  const isRefused = tellRefusals(terminal, result)
  const signal = signals.received()
  return signal ? exitCodeOf(signal) : isRefused || result.failed > 0 ? 1 : 0
}

/** The first signal ends the run after the workspace that is being stopped. The second one ends its program. */
function listenForSignals(terminal: Terminal) {
  const [ending, killing] = [new AbortController(), new AbortController()]
  let received: Signal | undefined
  void terminal.signal().then(async signal => {
    received = signal
    ending.abort()
    terminal.tell('ending after the workspace that is being stopped; a second signal ends its program')
    await terminal.signal()
    killing.abort()
  })
  return {
    ends: ending.signal,
    kills: killing.signal,
    end: () => ending.abort(),
    received: () => received,
  }
}

function policyOf(options: ReapCommandOptions) {
  const { for: idleFor, limit, rate, stopTimeout, maxLag, silentAfter, again } = options
  return {
    idleFor,
    limit,
    maxPerMinute: rate,
    stopTimeoutSeconds: stopTimeout,
    again,
    ...(maxLag !== undefined && { maxLagSeconds: maxLag }),
    ...(silentAfter !== undefined && { silentAfterSeconds: silentAfter }),
  }
}

async function reap(
  pool: OwnedPool,
  options: Omit<Parameters<typeof reapIdle>[0], 'pool'>,
): Promise<ReapResult> {
  try {
    return await reapIdle({ ...options, pool })
  } catch (error) {
    throw await explainPrivilegeError(pool, error, 'reaper')
  }
}

function lineOf({ outcome, workspaceId, lastUsedAt, idleSeconds }: ReapOutcome): string {
  const time = lastUsedAt === null ? 'never used' : formatTime(lastUsedAt)
  const age = idleSeconds === null ? '' : `  idle for ${formatAge(idleSeconds)}`
  return `${outcome.padEnd(10)}  ${workspaceId}  ${time.padEnd(20)}${age}`.trimEnd()
}

function printOutcome(terminal: Terminal, outcome: ReapOutcome): void {
  terminal.print(lineOf(outcome))
  if (outcome.outcome === 'failed') terminal.tell(`error: ${textOf(outcome.error)}`)
}

function summaryOf({ stopped, failed, inUse, held, ended }: ReapResult): string {
  const counts = `${count(stopped, 'workspace')} stopped, ${failed} failed, ${inUse} in use again, ${held} held`
  return ended === 'limit' ? `${counts}. The limit is reached; there may be more.` : counts
}

function printJson(terminal: Terminal, result: ReapResult, found: readonly ReapOutcome[]): void {
  const workspaces = found.map(({ error, ...outcome }) =>
    error === null ? outcome : { ...outcome, error: textOf(error) },
  )
  terminal.printJson({ ...result, workspaces })
}

function tellRefusals(terminal: Terminal, { refused }: ReapResult): boolean {
  for (const { reason, message, remedy } of refused)
    terminal.tell(`refused: ${reason}: ${message} ${remedy} Nothing is stopped meanwhile.`)
  return refused.length > 0
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
