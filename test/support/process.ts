import { type ChildProcess, spawn } from 'node:child_process'
import path from 'node:path'
import { atEnd } from './at-end.ts'
import { ROOT } from './checkout.ts'
import { until } from './poll.ts'
import { RUN_VARIABLE, SERVER_15_VARIABLE, SERVER_VARIABLE } from './settings.ts'

/** How to start a program. */
export interface ProgramOptions {
  /** Added to our own environment, of which everything that names a database is left out. */
  env?: Record<string, string>
  /** Standard input, whole. Default: empty. */
  input?: string
  /** Default: the package's root. */
  cwd?: string
  /** The user to run it as. Only root may set it. */
  uid?: number
  gid?: number
  /** In a process group of its own, so that `signalGroup` works. Default: false. */
  group?: boolean
}

/** How a program ended: `code` is null if a signal ended it. */
export interface Exit {
  code: number | null
  signal: NodeJS.Signals | null
}

/**
 * Starts a TypeScript program with the Node that runs this test. It is killed at the test file's end if it
 * still runs.
 * @param file relative to the package's root, such as `src/cli/main.ts`, or absolute
 */
export function startProgram(file: string, args: string[] = [], options: ProgramOptions = {}): Program {
  const { env, input, cwd = ROOT, group = false, ...account } = options
  const child = spawn(process.execPath, [path.resolve(ROOT, file), ...args], {
    ...account,
    cwd,
    detached: group,
    env: { ...environment(), ...env },
    stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
  })
  child.stdin?.on('error', () => {}).end(input)
  const program = new Program(child, [path.basename(file), ...args].join(' '))
  atEnd(() => program.end())
  return program
}

/** Runs a program to its end. @throws DeadlineError if that takes longer than `timeoutMs`, default 30 s */
export async function runProgram(
  file: string,
  args: string[] = [],
  { timeoutMs = 30_000, ...options }: ProgramOptions & { timeoutMs?: number } = {},
): Promise<Exit & { stdout: string; stderr: string }> {
  const program = startProgram(file, args, options)
  const exit = await program.untilExit({ timeoutMs })
  return { ...exit, stdout: program.stdout, stderr: program.stderr }
}

/** A program that was started. Its output is collected as it comes. */
export class Program {
  /** File name and arguments, for messages. */
  readonly name: string
  readonly pid: number
  /** Resolves when it has ended and all its output is here; never rejects. */
  readonly exited: Promise<Exit>
  stdout = ''
  stderr = ''
  #ended = false
  readonly #child: ChildProcess

  constructor(child: ChildProcess, name: string) {
    this.name = name
    this.#child = child
    this.exited = new Promise(resolve => {
      child.once('close', (code, signal) => {
        this.#ended = true
        resolve({ code, signal })
      })
    })
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    // "close" reports its end. The output only needs the reason why it could not be started.
    child.once('error', error => {
      this.stderr += String(error)
    })
    this.pid = child.pid ?? -1
  }

  /** Whether it has ended, and all its output. */
  state(): { ended: boolean; stdout: string; stderr: string } {
    return { ended: this.#ended, stdout: this.stdout, stderr: this.stderr }
  }

  /** The whole lines on standard output, then those on standard error, that match. */
  lines(pattern: RegExp): string[] {
    const whole = (text: string) => text.split('\n').slice(0, this.#ended ? undefined : -1)
    return [...whole(this.stdout), ...whole(this.stderr)].filter(line => line.search(pattern) !== -1)
  }

  /**
   * Waits for the `count`-th line that matches and returns it. Lines that were printed before the call count.
   * @param count default 1
   * @throws DeadlineError after `timeoutMs` (default 10 s), or Error at once if the program ends without
   * such a line; both with its output
   */
  async line(pattern: RegExp, { count = 1, timeoutMs = 10_000 } = {}): Promise<string> {
    await until(`${this.name} prints ${pattern}`, () => this.state(), {
      timeoutMs,
      accept: ({ ended }) => ended || this.lines(pattern).length >= count,
    })
    const line = this.lines(pattern)[count - 1]
    if (line !== undefined) return line
    throw new Error(
      `${this.name} ended without printing ${pattern}; it printed:\n${this.stdout}\n${this.stderr}`,
    )
  }

  /**
   * Waits until it has ended by itself.
   * @throws DeadlineError after `timeoutMs`, default 10 s; with its output
   */
  async untilExit({ timeoutMs = 10_000 } = {}): Promise<Exit> {
    await until(`${this.name} ends`, () => this.state(), { timeoutMs, accept: ({ ended }) => ended })
    return await this.exited
  }

  /** Sends a signal to the program alone. */
  kill(signal: NodeJS.Signals = 'SIGTERM'): void {
    this.#child.kill(signal)
  }

  /**
   * Sends a signal to the program and its children, as a terminal's Ctrl-C does; needs the option `group`.
   */
  signalGroup(signal: NodeJS.Signals): void {
    process.kill(-this.pid, signal)
  }

  /** Kills it if it still runs, and waits for its end. */
  async end(): Promise<void> {
    this.kill('SIGKILL')
    await this.exited
  }
}

function environment(): NodeJS.ProcessEnv {
  const foreign = [
    SERVER_VARIABLE,
    SERVER_15_VARIABLE,
    RUN_VARIABLE,
    'DATABASE_URL',
    'NODE_TEST_CONTEXT',
    'NODE_OPTIONS',
  ]
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !foreign.includes(name) && !name.startsWith('PG')),
  )
}
