import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { EmbeddedPostgresError } from './embedded-postgres-error.ts'

/** The system user that runs a program. */
export interface Account {
  uid: number
  gid: number
}

/** The user that runs this process. */
export const OURSELVES: Account = { uid: process.getuid!(), gid: process.getgid!() }

// A lock lets one run at a time. Two useradd at once both succeed, and the second removes the user of the first.
const FIND_OR_CREATE = `exec 9</etc; flock 9
getent passwd postgres || {
  useradd --system --user-group --shell /bin/false postgres
  getent passwd postgres
}`

/**
 * Returns the user that runs a server: the user of this process, unless that is root. PostgreSQL refuses to run as
 * root. Then it is the system user `postgres`, which is created if it is missing.
 *
 * @throws EmbeddedPostgresError if it can't be created
 */
export async function serverAccount(): Promise<Account> {
  if (OURSELVES.uid !== 0) return OURSELVES
  try {
    const { stdout } = await promisify(execFile)('/bin/sh', ['-c', FIND_OR_CREATE])
    const [, , uid, gid] = stdout.split(':')
    return { uid: Number(uid), gid: Number(gid) }
  } catch (error) {
    const reason = 'PostgreSQL refuses to run as root, and the system user "postgres" could not be created.'
    const remedy = 'Create it, or run this as an ordinary user.'
    throw new EmbeddedPostgresError('account', `${reason} ${remedy}`, (error as { stderr: string }).stderr)
  }
}

/** Tells whether an account can enter a directory or run a program. */
export function canReach(account: Account, file: string): Promise<boolean> {
  const reached = promisify(execFile)('test', ['-x', file], { ...account })
  return reached.then(Boolean, () => false)
}
