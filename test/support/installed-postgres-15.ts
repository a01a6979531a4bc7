import { execFileSync } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { TEST_SETTINGS } from './settings.ts'

/**
 * Starts the system's PostgreSQL 15. Null if it is not installed. Stopping it is up to the caller.
 * @param settings beside those of all tests
 */
export async function startInstalledPostgres15(
  settings: Record<string, string> = {},
): Promise<EmbeddedPostgres | null> {
  const directories = [
    '/usr/lib/postgresql/15/bin',
    ...(process.env.PATH ?? '').split(delimiter).filter(directory => directory !== ''),
  ]
  for (const directory of directories) {
    const binDirectory = programsIn(directory)
    if (binDirectory !== null) {
      return startEmbeddedPostgres({ binDirectory, settings: { ...TEST_SETTINGS, ...settings } })
    }
  }
  return null
}

function programsIn(directory: string): string | null {
  try {
    const initdb = realpathSync(join(directory, 'initdb'))
    const version = execFileSync(initdb, ['--version'], { encoding: 'utf8' })
    return version.includes(' 15.') ? dirname(initdb) : null
  } catch {
    return null
  }
}
