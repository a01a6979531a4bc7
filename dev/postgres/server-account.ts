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

// Another start may create the user at the same moment. Then useradd waits and fails, and the user is there.
const FIND_OR_CREATE = `getent passwd postgres || {
  useradd --system --user-group --shell /bin/false postgres
  getent passwd postgres
}`

/**
 * The user that a server runs as: ourselves, unless we are root. PostgreSQL refuses to run as root, so it is the
 * system user `postgres` then, which is created if it is missing.
 * @throws EmbeddedPostgresError if it can't be created
 */
export async function serverAccount(): Promise<Account> {
  if (OURSELVES.uid !== 0) return OURSELVES
  try {
    const { stdout } = await promisify(execFile)('/bin/sh', ['-c', FIND_OR_CREATE])
    const [, , uid, gid] = stdout.split(':')
    return { uid: Number(uid), gid: Number(gid) }
  } catch (error) {
    const reason =
      'PostgreSQL refuses to run as root, and the system user "postgres" is missing and could not be created. ' +
      'Create it, or run this as an ordinary user.'
    throw new EmbeddedPostgresError('account', reason, (error as { stderr: string }).stderr)
  }
}

/** Whether an account can enter a directory or run a program. */
export function canReach(account: Account, file: string): Promise<boolean> {
  return promisify(execFile)('test', ['-x', file], { ...account }).then(
    () => true,
    () => false,
  )
}
