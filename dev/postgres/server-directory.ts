import { chmod, chown, mkdir, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Account, run } from './command.ts'
import { EmbeddedPostgresError } from './embedded-postgres-error.ts'

/**
 * Where one server lives. Everything is below `root`, which is ours, unguessable, and removed with the
 * server.
 */
export interface ServerDirectory {
  root: string
  /** Owned by the server's account, like PostgreSQL demands. */
  data: string
  /** Only ours to write: here the server's programs are copied if need be. */
  programs: string
  log: string
}

/**
 * Makes the directory of a new server in the first temporary directory that its account can enter.
 * @throws EmbeddedPostgresError if there is none.
 */
export async function makeServerDirectory(account: Account | undefined): Promise<ServerDirectory> {
  const parent = account === undefined ? tmpdir() : await enterable([tmpdir(), '/tmp', '/var/tmp'], account)
  const root = await mkdtemp(join(parent, 'workspace-usage-postgres-'))
  const directory: ServerDirectory = {
    root,
    data: join(root, 'data'),
    programs: join(root, 'programs'),
    log: join(root, 'server.log'),
  }
  await mkdir(directory.data, { mode: 0o700 })
  await mkdir(directory.programs)
  if (account !== undefined) {
    // Explicitly, so that a narrow umask does not shut the server out.
    await chmod(root, 0o711)
    await chmod(directory.programs, 0o755)
    await chown(directory.data, account.uid, account.gid)
  }
  return directory
}

async function enterable(candidates: string[], account: Account): Promise<string> {
  for (const candidate of candidates) {
    const { code } = await run('/bin/sh', ['-c', 'cd -- "$1"', 'sh', candidate], { account, cwd: '/' })
    if (code === 0) return candidate
  }
  throw new EmbeddedPostgresError({
    step: 'initdb',
    reason:
      `the user with id ${account.uid}, as whom the server must run, can enter none of ${candidates.join(', ')}. ` +
      'Set TMPDIR to a directory that it can enter.',
    logTail: '',
  })
}
