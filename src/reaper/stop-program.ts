import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import { StopProgramError } from '../errors.ts'

/** How long a program may take to end after SIGTERM, in ms. Then it gets SIGKILL. */
const KILL_AFTER_MS = 2_000

/** How long output of a program is waited for after its end, in ms. What it has started may keep it open. */
const OUTPUT_WITHIN_MS = 1_000

/** A program that stops one workspace. */
export interface StopProgram {
  /** A path, or a name that PATH finds. No shell is between. */
  program: string
  /** Its first arguments. The id of the workspace is the last one, and in WORKSPACE_ID. */
  arguments: readonly string[]
  /** Where its output goes. */
  output: Writable
}

/**
 * Runs a program for a workspace. It is in a process group of its own, so Ctrl-C on the terminal does not reach it.
 *
 * @param signal If it is aborted, the program and what it has started are ended.
 * @throws {StopProgramError} If it does not end with the exit code 0.
 * @throws The error of the system if it can't be started.
 */
export async function runStopProgram(
  { program, arguments: first, output }: StopProgram,
  workspaceId: string,
  signal: AbortSignal,
): Promise<void> {
  const child = spawn(program, [...first, workspaceId], {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    env: { ...process.env, WORKSPACE_ID: workspaceId },
  })
  for (const stream of [child.stdout!, child.stderr!]) stream.pipe(output, { end: false })
  const closed = once(child, 'close').catch(() => {})
  const kill = () => {
    killGroup(child, 'SIGTERM')
    setTimeout(() => killGroup(child, 'SIGKILL'), KILL_AFTER_MS).unref()
  }
  signal.addEventListener('abort', kill)
  try {
    const [code, killedBy] = (await once(child, 'exit')) as [number | null, string | null]
    await Promise.race([closed, delay(OUTPUT_WITHIN_MS, undefined, { ref: false })])
    if (code !== 0) throw new StopProgramError(program, workspaceId, code, killedBy)
  } finally {
    signal.removeEventListener('abort', kill)
    for (const stream of [child.stdout!, child.stderr!]) stream.unpipe(output)
  }
}

function killGroup({ pid, exitCode, signalCode }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined || exitCode !== null || signalCode !== null) return
  try {
    process.kill(-pid, signal)
  } catch {
    // It has just ended.
  }
}
