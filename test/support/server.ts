import { execFileSync } from 'node:child_process'
import { realpathSync } from 'node:fs'
import { delimiter, dirname, join } from 'node:path'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { atEnd } from './at-end.ts'
import { TEST_SETTINGS } from './settings.ts'

/**
 * Starts a server for the calling test file alone, to crash, restart or configure; stopped at the file's end.
 * 18 is the embedded one; 15 is the system's, and null if it isn't installed: `t.skip(POSTGRES_15_MISSING)`.
 * @param settings beside those of all test servers
 */
export async function startServer(major: 18, settings?: Record<string, string>): Promise<EmbeddedPostgres>
export async function startServer(
  major: 15 | 18,
  settings?: Record<string, string>,
): Promise<EmbeddedPostgres | null>
export async function startServer(
  major: 15 | 18,
  settings: Record<string, string> = {},
): Promise<EmbeddedPostgres | null> {
  const binDirectory = major === 18 ? undefined : installed(major)
  if (binDirectory === null) return null
  const server = await startEmbeddedPostgres({
    ...(binDirectory === undefined ? {} : { binDirectory }),
    settings: { ...TEST_SETTINGS, ...settings },
  })
  atEnd(() => server.stop())
  return server
}

/** Why a test on PostgreSQL 15 is skipped. */
export const POSTGRES_15_MISSING =
  "PostgreSQL 15's initdb is neither in PATH nor in /usr/lib/postgresql/15/bin"

function installed(major: number): string | null {
  const directories = [
    `/usr/lib/postgresql/${major}/bin`,
    ...(process.env.PATH ?? '').split(delimiter).filter(directory => directory !== ''),
  ]
  return directories.map(directory => binariesOf(directory, major)).find(found => found !== null) ?? null
}

function binariesOf(directory: string, major: number): string | null {
  try {
    const initdb = realpathSync(join(directory, 'initdb'))
    const version = execFileSync(initdb, ['--version'], { encoding: 'utf8' })
    return version.includes(` ${major}.`) ? dirname(initdb) : null
  } catch {
    return null
  }
}
