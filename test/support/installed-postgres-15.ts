import { execFileSync } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { TEST_SETTINGS } from './settings.ts'

/** Why a test on PostgreSQL 15 is skipped, or a run on it is refused. */
export const POSTGRES_15_MISSING =
  "PostgreSQL 15's initdb is neither in PATH nor in /usr/lib/postgresql/15/bin"

/**
 * Starts the system's PostgreSQL 15. Null if it is not installed. Stopping it is up to the caller.
 * @param settings beside those of all tests
 */
export async function startInstalledPostgres15(
  settings: Record<string, string> = {},
): Promise<EmbeddedPostgres | null> {
  const binDirectory = installedPrograms15()
  return binDirectory === null
    ? null
    : await startEmbeddedPostgres({ binDirectory, settings: { ...TEST_SETTINGS, ...settings } })
}

/** The directory of the programs of the system's PostgreSQL 15. Null if it is not installed. */
export function installedPrograms15(): string | null {
  const directories = [
    '/usr/lib/postgresql/15/bin',
    ...(process.env.PATH ?? '').split(delimiter).filter(directory => directory !== ''),
  ]
  for (const directory of directories) {
    const programs = programsIn(directory)
    if (programs !== null) return programs
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
