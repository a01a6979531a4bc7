import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import pg from 'pg'
import { freePort } from '../../dev/postgres/free-port.ts'
import { serverAccount } from '../../dev/postgres/server-account.ts'
import { atEnd } from './at-end.ts'
import { until } from './poll.ts'

/** Why a test through a pooler is skipped. */
export const PGBOUNCER_MISSING = 'pgbouncer is neither in PATH nor in /usr/sbin'

/** A PgBouncer that can be killed, started anew and paused. */
export interface Pooler {
  /** The database through the pooler, as the role of the server's connection string. */
  readonly connectionString: string
  /** Another connection string of the same server, through the pooler. Its role must be one of `as`. */
  through(connectionString: string): string
  /** A command of the console, such as `PAUSE` or `SHOW POOLS`. */
  command(text: string): Promise<pg.QueryResult>
  kill(signal: NodeJS.Signals): Promise<void>
  /** Starts it anew on the same port. Resolves when it answers. */
  start(): Promise<void>
}

/**
 * Starts a PgBouncer, by default in transaction mode, in front of the server of a connection string. It keeps five
 * connections for each database and role. It is stopped at the file's end.
 *
 * @param settings lines of its own for pgbouncer.ini
 * @param as connection strings of further roles that may use it
 * @returns Null if PgBouncer is not installed.
 */
export async function startPooler(
  connectionString: string,
  settings: readonly string[] = ['pool_mode = transaction'],
  as: readonly string[] = [],
): Promise<Pooler | null> {
  const program = ['/usr/sbin', ...(process.env.PATH ?? '').split(delimiter)]
    .map(directory => join(directory, 'pgbouncer'))
    .find(existsSync)
  if (program === undefined) return null
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'workspace-usage-pgbouncer-'))
  atEnd(() => rmSync(directory, { recursive: true }))
  const file = writeSettings(directory, port, connectionString, settings, as)
  const account = await serverAccount()
  let pooler: ChildProcess
  const kill = async (signal: NodeJS.Signals) => {
    if (pooler.exitCode !== null || pooler.signalCode !== null) return
    const ended = once(pooler, 'exit')
    pooler.kill(signal)
    await ended
  }
  const through = (url: string) => Object.assign(new URL(url), { port: String(port) }).href
  const start = async () => {
    pooler = spawn(program, ['--quiet', file], { stdio: 'ignore', ...account })
    await until('the pooler answers', async () => {
      await ask(through(connectionString), 'SELECT')
      return true
    })
  }
  atEnd(() => kill('SIGKILL'))
  await start()
  const console = Object.assign(new URL(through(connectionString)), { pathname: '/pgbouncer' }).href
  return {
    connectionString: through(connectionString),
    through,
    command: text => ask(console, text),
    kill,
    start,
  }
}

/** As `startPooler`, for who needs only the connection string of the database through it. */
export async function startPgBouncer(
  connectionString: string,
  settings?: readonly string[],
): Promise<string | null> {
  const pooler = await startPooler(connectionString, settings)
  return pooler?.connectionString ?? null
}

function writeSettings(
  directory: string,
  port: number,
  connectionString: string,
  settings: readonly string[],
  as: readonly string[],
): string {
  const server = new URL(connectionString)
  const credentials = [connectionString, ...as].map(url => {
    const { username, password } = new URL(url)
    return [username, password].map(part => `"${decodeURIComponent(part).replaceAll('"', '""')}"`).join(' ')
  })
  writeFileSync(join(directory, 'users'), `${credentials.join('\n')}\n`)
  const file = join(directory, 'pgbouncer.ini')
  writeFileSync(
    file,
    `[databases]
* = host=${server.hostname} port=${server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = plain
auth_file = ${join(directory, 'users')}
admin_users = ${decodeURIComponent(server.username)}
default_pool_size = 5
${settings.join('\n')}
`,
  )
  // It refuses to run as root, so another user reads these files.
  chmodSync(directory, 0o755)
  return file
}

async function ask(connectionString: string, text: string): Promise<pg.QueryResult> {
  const client = new pg.Client({ connectionString })
  client.on('error', () => {})
  await client.connect()
  try {
    return await client.query(text)
  } finally {
    await client.end()
  }
}
