import { randomBytes } from 'node:crypto'
import { appendFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ServerDirectory } from './server-directory.ts'

/** Creates the data of a new server. @returns the password of its superuser `postgres` @throws EmbeddedPostgresError */
export async function initialise(directory: ServerDirectory, initdb: string): Promise<string> {
  const password = randomBytes(18).toString('base64url')
  const passwordFile = join(directory.path, 'password')
  await writeFile(passwordFile, password, { mode: 0o600 })
  directory.give(passwordFile)
  const authentication = ['--username=postgres', '--pwfile=password', '--auth=scram-sha-256']
  const options = ['--encoding=UTF8', '--locale=C', '--no-sync']
  await directory.run('initdb', initdb, ['--pgdata=data', ...authentication, ...options])
  return password
}

/** Copies the data of a server that is shut down, for a standby. @returns its password @throws EmbeddedPostgresError */
export async function copyAsStandby(
  directory: ServerDirectory,
  { dataDirectory, connectionString }: { dataDirectory: string; connectionString: string },
): Promise<string> {
  await directory.run('initdb', 'cp', ['-R', dataDirectory, 'data'])
  await writeFile(join(directory.data, 'standby.signal'), '')
  await configure(directory, { primary_conninfo: connectionString })
  return new URL(connectionString).password
}

/** Adds lines to `postgresql.conf`. If a setting is there twice, the later one counts. */
export async function configure({ data }: ServerDirectory, settings: Record<string, string>): Promise<void> {
  const quoted = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`)
  await appendFile(join(data, 'postgresql.conf'), `${quoted.join('\n')}\n`)
}
