import { spawn } from 'node:child_process'
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

/**
 * Starts a PgBouncer, by default in transaction mode, in front of the server of a connection string. It keeps five
 * connections for each database and role. It is stopped at the file's end.
 *
 * @param settings lines of its own for pgbouncer.ini
 * @returns The connection string of the same database through it. Null if PgBouncer is not installed.
 */
export async function startPgBouncer(
  connectionString: string,
  settings: readonly string[] = ['pool_mode = transaction'],
): Promise<string | null> {
  const program = ['/usr/sbin', ...(process.env.PATH ?? '').split(delimiter)]
    .map(directory => join(directory, 'pgbouncer'))
    .find(existsSync)
  if (program === undefined) return null
  const through = new URL(connectionString)
  const port = await freePort()
  const directory = mkdtempSync(join(tmpdir(), 'workspace-usage-pgbouncer-'))
  atEnd(() => rmSync(directory, { recursive: true }))
  const file = join(directory, 'pgbouncer.ini')
  writeFileSync(join(directory, 'users'), `"${through.username}" "${decodeURIComponent(through.password)}"\n`)
  writeFileSync(
    file,
    `[databases]
* = host=${through.hostname} port=${through.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = plain
auth_file = ${join(directory, 'users')}
default_pool_size = 5
${settings.join('\n')}
`,
  )
  // It refuses to run as root, so another user reads these files.
  chmodSync(directory, 0o755)
  const pooler = spawn(program, ['--quiet', file], { stdio: 'ignore', ...(await serverAccount()) })
  const ended = new Promise(resolve => pooler.once('exit', resolve))
  atEnd(async () => {
    pooler.kill('SIGKILL')
    await ended
  })
  through.port = String(port)
  await until('the pooler answers', async () => {
    const client = new pg.Client({ connectionString: through.href })
    await client.connect()
    await client.end()
    return true
  })
  return through.href
}
