import { spawn } from 'node:child_process'
import { delimiter, dirname } from 'node:path'
import { atEnd } from '../support/at-end.ts'
import { RUN_VARIABLE, SERVER_VARIABLE } from '../support/settings.ts'

/** The output of a program that ended with 0. */
export interface Output {
  stdout: string
  stderr: string
}

/** A program ended with something other than 0; the message holds all it printed. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  readonly #output: Output

  constructor(command: string, code: number | null, output: Output) {
    super(`${command} ended with ${code}:\n${output.stdout}\n${output.stderr}`)
    this.#output = output
  }

  get stdout(): string {
    return this.#output.stdout
  }

  get stderr(): string {
    return this.#output.stderr
  }
}

/** How to run a program. */
export interface CommandOptions {
  cwd: string
  /** Added to our own environment, without everything in that which names a database or a script of this package. */
  env?: Record<string, string>
  /** After this time it and its children are killed. Default 60 s, which is less than the test runner gives a file. */
  timeoutMs?: number
}

/**
 * Runs a program, with the Node that runs this test first in PATH.
 * @throws CommandError unless it ends with 0
 */
export async function command(file: string, args: string[], options: CommandOptions): Promise<Output> {
  const { cwd, env, timeoutMs = 60_000 } = options
  const child = spawn(file, args, {
    cwd,
    env: { ...environment(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  const output: Output = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', text => {
    output.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', text => {
    output.stderr += text
  })
  const { promise: ended, resolve } = Promise.withResolvers<number | null>()
  child.once('close', resolve)
  child.once('error', error => {
    output.stderr += String(error)
    resolve(null)
  })
  let running = child.pid !== undefined
  child.once('exit', () => {
    running = false
  })
  const kill = () => {
    if (running) process.kill(-child.pid!, 'SIGKILL')
  }
  atEnd(kill)
  const timer = setTimeout(kill, timeoutMs)
  const code = await ended
  clearTimeout(timer)
  if (code !== 0) throw new CommandError([file, ...args].join(' '), code, output)
  return output
}

function environment(): NodeJS.ProcessEnv {
  const foreign = [
    SERVER_VARIABLE,
    RUN_VARIABLE,
    'DATABASE_URL',
    'INIT_CWD',
    'NODE_TEST_CONTEXT',
    'NODE_OPTIONS',
  ]
  const ours = Object.entries(process.env).filter(
    ([name]) => !foreign.includes(name) && !/^(PG|WORKSPACE_USAGE_|npm_(package|lifecycle)_)/.test(name),
  )
  const path = [dirname(process.execPath), process.env.PATH].join(delimiter)
  return { ...Object.fromEntries(ours), PATH: path }
}
