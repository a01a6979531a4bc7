import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import pg from 'pg'
import { atEnd } from './at-end.ts'
import { type Program, type ProgramOptions, runProgram, startProgram } from './process.ts'
import { testServer } from './test-server.ts'

const MAIN = 'src/cli/main.ts'
const PASSWORD = 'not-for-any-output'

/** How a command ended, and what it printed. */
export interface CommandResult {
  code: number | null
  stdout: string
  stderr: string
}

/** Runs a command to its end, whatever its exit code. Fails if it prints the password of `commandLineUrl`. */
export async function runCommand(args: string[], options: ProgramOptions = {}): Promise<CommandResult> {
  const { code, stdout, stderr } = await runProgram(MAIN, args, { ...options, timeoutMs: 60_000 })
  assertSecretKept(stdout + stderr)
  return { code, stdout, stderr }
}

/** Starts a command that runs until it is told to stop; see `stopCommand`. */
export function startCommand(args: string[], options: ProgramOptions = {}): Program {
  return startProgram(MAIN, args, options)
}

/** Sends SIGTERM and waits for the end. Fails if the password was printed. */
export async function stopCommand(program: Program): Promise<CommandResult> {
  program.kill('SIGTERM')
  const { code } = await program.exited
  assertSecretKept(program.stdout + program.stderr)
  return { code, stdout: program.stdout, stderr: program.stderr }
}

/**
 * The connection string of a database as a role of this test file's own, which may do what the superuser
 * may, and has a password that is easily found in an output.
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
  // It acts as the superuser and so owns nothing, which would stay in the way of dropping it.
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
