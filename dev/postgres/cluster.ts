import { appendFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { ServerDirectory } from './server-directory.ts'

/** Makes the data of a new server, with the superuser `postgres`. @throws EmbeddedPostgresError */
export async function initialise(
  directory: ServerDirectory,
  initdb: string,
  password: string,
): Promise<void> {
  const passwordFile = join(directory.path, 'password')
  await writeFile(passwordFile, password, { mode: 0o600 })
  directory.give(passwordFile)
  const authentication = ['--username=postgres', '--pwfile=password', '--auth=scram-sha-256']
  const options = ['--encoding=UTF8', '--locale=C', '--no-sync']
  await directory.run('initdb', initdb, ['--pgdata=data', ...authentication, ...options])
}

/** Copies the data of a server that is shut down, for a standby of it. @throws EmbeddedPostgresError */
export async function copyAsStandby(
  directory: ServerDirectory,
  primary: { dataDirectory: string; connectionString: string },
): Promise<void> {
  await directory.run('initdb', 'cp', ['-R', primary.dataDirectory, 'data'])
  await writeFile(join(directory.data, 'standby.signal'), '')
  await configure(directory, { primary_conninfo: primary.connectionString })
}

/** Adds lines to `postgresql.conf`. Of a setting given twice, the later one counts. */
export async function configure({ data }: ServerDirectory, settings: Record<string, string>): Promise<void> {
  const quoted = Object.entries(settings).map(([name, value]) => `${name} = '${value.replaceAll("'", "''")}'`)
  await appendFile(join(data, 'postgresql.conf'), `${quoted.join('\n')}\n`)
}
