import { spawn } from 'node:child_process'

/** A system user to run a program as. Only root may name one. */
export interface Account {
  uid: number
  gid: number
}

/**
 * How a program ended, and all it printed. `code` is null if it could not be run or was ended by a signal.
 */
export interface CommandResult {
  code: number | null
  /** Standard output and standard error, as they came. */
  output: string
}

/**
 * Runs a program to its end, as `account` if there is one. Never rejects: one that can't be run has `code`
 * null.
 */
export function run(
  file: string,
  args: string[],
  { account, cwd }: { account?: Account | undefined; cwd?: string | undefined } = {},
): Promise<CommandResult> {
  return new Promise(resolve => {
    let output = ''
    const child = spawn(file, args, {
      ...account,
      cwd,
      env: serverEnvironment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    const collect = (text: string) => {
      output += text
    }
    child.stdout.setEncoding('utf8').on('data', collect)
    child.stderr.setEncoding('utf8').on('data', collect)
    child.once('error', error => resolve({ code: null, output: output + String(error) }))
    child.once('close', code => resolve({ code, output }))
  })
}

/**
 * The environment of PostgreSQL's programs: ours without PostgreSQL's own variables, which would aim them at
 * another server, and in English, for messages are matched. (On macOS a server without a locale refuses to
 * start.)
 */
export function serverEnvironment(): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('PG'))
  return { ...Object.fromEntries(inherited), LC_ALL: 'C' }
}
