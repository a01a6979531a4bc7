import { appendFile, chown, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Account, run } from './command.ts'
import { EmbeddedPostgresError, tail } from './embedded-postgres-error.ts'
import type { ServerDirectory } from './server-directory.ts'

/** The superuser of an embedded server. */
export const SUPERUSER = 'postgres'

/** Runs initdb in the data directory. @throws EmbeddedPostgresError */
export async function initialise(
  initdb: string,
  directory: ServerDirectory,
  password: string,
  account: Account | undefined,
): Promise<void> {
  const passwordFile = join(directory.root, 'password')
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 })
  if (account !== undefined) await chown(passwordFile, account.uid, account.gid)
  const { code, output } = await run(
    initdb,
    [
      `--pgdata=${directory.data}`,
      `--username=${SUPERUSER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale=C',
      '--no-sync',
    ],
    { account, cwd: directory.root },
  )
  await rm(passwordFile)
  if (code !== 0) {
    throw new EmbeddedPostgresError({
      step: 'initdb',
      reason: `${initdb} failed.`,
      logTail: tail(output),
    })
  }
}

/**
 * Copies the data directory of a server that is shut down, for a standby that follows it.
 * @throws EmbeddedPostgresError
 */
export async function copyAsStandby(
  primary: { dataDirectory: string; connectionString: string },
  directory: ServerDirectory,
  account: Account | undefined,
): Promise<void> {
  // As the server's user, so that the copy is its own.
  const { code, output } = await run('cp', ['-R', `${primary.dataDirectory}/.`, directory.data], { account })
  if (code !== 0) {
    throw new EmbeddedPostgresError({
      step: 'initdb',
      reason: `${primary.dataDirectory} could not be copied.`,
      logTail: tail(output),
    })
  }
  await writeFile(join(directory.data, 'standby.signal'), '')
  await configure(directory, { primary_conninfo: primary.connectionString })
}

/**
 * Adds lines to `postgresql.conf`, read at the next start. Of a setting given twice, the later one counts.
 */
export async function configure(directory: ServerDirectory, settings: Record<string, string>): Promise<void> {
  const lines = Object.entries(settings).map(
    ([name, value]) => `${name} = '${value.replaceAll("'", "''")}'\n`,
  )
  await appendFile(join(directory.data, 'postgresql.conf'), lines.join(''))
}
