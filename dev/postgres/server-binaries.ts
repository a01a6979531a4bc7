import { cp } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { type Account, run } from './command.ts'
import { EmbeddedPostgresError, tail } from './embedded-postgres-error.ts'

/** Absolute paths of the two programs that a server needs. */
export interface ServerBinaries {
  initdb: string
  postgres: string
}

/**
 * The programs in `binDirectory`, by default those of the platform package that `embedded-postgres` installs.
 * Of that library nothing else is used: importing it installs exit hooks that end the process they are in.
 * @throws EmbeddedPostgresError if there are none for this platform, or they don't run.
 */
export async function findBinaries(binDirectory: string | undefined): Promise<ServerBinaries> {
  const binaries = binDirectory === undefined ? await packaged() : inDirectory(binDirectory)
  await check(binaries, undefined, 'if npm skipped install scripts, run `npm rebuild`')
  return binaries
}

/**
 * The same programs where `account` can run them: themselves, or, if they lie below a directory that only we
 * may enter, a copy made in `directory`, which must be ours alone to write. Removing the copy is up to the
 * caller.
 */
export async function reachableBinaries(
  binaries: ServerBinaries,
  account: Account,
  directory: string,
): Promise<ServerBinaries> {
  const { code } = await run(binaries.postgres, ['--version'], { account, cwd: directory })
  if (code === 0) return binaries
  // The programs find their libraries and their share directory beside their own directory.
  const bin = dirname(binaries.postgres)
  await cp(dirname(bin), directory, { recursive: true, verbatimSymlinks: true, filter: neededToRun })
  const copies = inDirectory(join(directory, basename(bin)))
  await check(copies, account, `they are a copy of those in ${bin}, which the user can't reach`)
  return copies
}

async function packaged(): Promise<ServerBinaries> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform
  const name = `@embedded-postgres/${platform}-${process.arch}`
  try {
    return (await import(name)) as ServerBinaries
  } catch (error) {
    throw new EmbeddedPostgresError({
      step: 'find',
      reason:
        `the package ${name} can't be loaded. Install the devDependencies with their optional ones ` +
        '(`npm ci`), or set DATABASE_URL to use a server of your own.',
      logTail: String(error),
    })
  }
}

function inDirectory(directory: string): ServerBinaries {
  const suffix = process.platform === 'win32' ? '.exe' : ''
  return { initdb: join(directory, `initdb${suffix}`), postgres: join(directory, `postgres${suffix}`) }
}

async function check(binaries: ServerBinaries, account: Account | undefined, hint: string): Promise<void> {
  for (const file of [binaries.initdb, binaries.postgres]) {
    const { code, output } = await run(file, ['--version'], { account })
    if (code === 0) continue
    throw new EmbeddedPostgresError({
      step: 'find',
      reason: `${file} does not run (${hint}).`,
      logTail: tail(output),
    })
  }
}

function neededToRun(source: string): boolean {
  return !source.endsWith('.a') && basename(source) !== 'include'
}
