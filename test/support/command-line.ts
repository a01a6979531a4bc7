import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { EventEmitter } from 'node:events'
import { PassThrough, Writable } from 'node:stream'
import pg from 'pg'
import { run } from '../../src/cli/program.ts'
import type { Output, Streams } from '../../src/cli/terminal.ts'
import { atEnd } from './at-end.ts'
import { until } from './poll.ts'
import { type ProgramOptions, runProgram } from './process.ts'
import { testServer } from './test-server.ts'

const MAIN = 'src/cli/main.ts'
const PASSWORD = 'not-for-any-output'

/** How a command ended, and what it printed. */
export interface CommandResult {
  code: number | null
  stdout: string
  stderr: string
}

/** The input of a command. */
export interface CommandOptions {
  /** Its whole environment. Default: empty. */
  env?: Record<string, string>
  /** Standard input, whole. Default: empty. */
  input?: string
  /** Whether its streams are terminals. Default: false. */
  terminal?: boolean
}

/**
 * Runs a command to its end in this process, whatever its exit code. Fails if it prints the password of
 * `commandLineUrl`.
 */
export async function runCommand(
  args: string[],
  { input = '', ...options }: CommandOptions = {},
): Promise<CommandResult> {
  const command = startCommand(args, options)
  command.stdin.end(input)
  return await command.ended
}

/** Starts a command in this process that runs until it is told to stop, or until its standard input ends. */
export function startCommand(args: string[], options: CommandOptions = {}): RunningCommand {
  const command = new RunningCommand(args, options)
  // A command that a failed test left running would keep this process alive.
  atEnd(() => command.end())
  return command
}

/** A command that runs in this process. Its output is collected as it comes. */
export class RunningCommand extends EventEmitter implements Streams {
  readonly stdin: PassThrough & { isTTY: boolean }
  readonly stdout: Output
  readonly stderr: Output
  /** How it ended. Rejects if the password was printed. */
  readonly ended: Promise<CommandResult>
  readonly #name: string
  #printed = { stdout: '', stderr: '' }

  constructor(args: string[], { env = {}, terminal = false }: CommandOptions) {
    super()
    this.#name = `workspace-usage ${args.join(' ')}`
    this.stdin = Object.assign(new PassThrough(), { isTTY: terminal })
    this.stdout = Object.assign(this.#collector('stdout'), { isTTY: terminal, columns: 80 })
    this.stderr = Object.assign(this.#collector('stderr'), { isTTY: terminal, columns: 80 })
    this.ended = run(args, env, this).then(code => {
      assertSecretKept(this.#printed.stdout + this.#printed.stderr)
      return { code, ...this.#printed }
    })
  }

  /** What it has printed so far, on both outputs. */
  get printed(): string {
    return this.#printed.stdout + this.#printed.stderr
  }

  /** Waits until it has printed what matches, on either output. */
  async prints(pattern: RegExp, { timeoutMs = 10_000 } = {}): Promise<void> {
    await until(`${this.#name} prints ${pattern}`, () => this.printed, {
      accept: text => pattern.test(text),
      timeoutMs,
    })
  }

  /** Tells it to end, if it still runs. */
  end(): void {
    this.stdin.destroy()
    this.emit('SIGTERM', 'SIGTERM')
  }

  #collector(output: 'stdout' | 'stderr'): Writable {
    return new Writable({
      decodeStrings: false,
      write: (text, _, done) => {
        this.#printed[output] += text
        done()
      },
    })
  }
}

/** Runs a command in a process of its own. */
export async function runCommandProcess(
  args: string[],
  options: ProgramOptions = {},
): Promise<CommandResult> {
  const { code, stdout, stderr } = await runProgram(MAIN, args, { ...options, timeoutMs: 60_000 })
  assertSecretKept(stdout + stderr)
  return { code, stdout, stderr }
}

/**
 * The connection string of a database for a role of this test file. The role has the rights of the superuser, and a
 * password that is easily found in an output.
 */
export async function commandLineUrl(connectionString: string): Promise<string> {
  role ??= createRole()
  const url = new URL(connectionString)
  url.username = await role
  url.password = PASSWORD
  return url.href
}

let role: Promise<string> | undefined

async function createRole(): Promise<string> {
  const client = new pg.Client({ connectionString: await testServer() })
  await client.connect()
  const name = `usage_command_line_${randomBytes(5).toString('hex')}`
  const { rows } = await client.query('SELECT quote_ident(current_user) AS superuser')
  const { superuser } = rows[0] as { superuser: string }
  // The role acts as the superuser. So it owns nothing, and can be dropped at the end.
  await client.query(`
    CREATE ROLE ${name} LOGIN PASSWORD '${PASSWORD}' IN ROLE ${superuser};
    ALTER ROLE ${name} SET role = ${superuser}`)
  atEnd(async () => {
    await client.query(`DROP ROLE ${name}`)
    await client.end()
  })
  return name
}

function assertSecretKept(output: string): void {
  assert.ok(!output.includes(PASSWORD), `the password was printed:\n${output}`)
}
