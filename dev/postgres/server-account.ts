import { setTimeout as delay } from 'node:timers/promises'
import { type Account, run } from './command.ts'
import { EmbeddedPostgresError, tail } from './embedded-postgres-error.ts'

const NAME = 'postgres'

/**
 * The user that the server runs as: undefined (ourselves) unless we are root, which PostgreSQL refuses; then
 * the system user `postgres`, created if missing.
 * @throws EmbeddedPostgresError if there is no such user and it can't be created.
 */
export async function serverAccount(): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined
  const existing = await lookUp()
  if (existing !== undefined) return existing

  const outputs: string[] = []
  // shadow-utils first, then busybox.
  for (const [file, ...args] of [
    ['useradd', '--system', '--user-group', '--no-create-home', '--shell', '/bin/false', NAME],
    ['adduser', '-S', '-D', '-H', NAME],
  ] as const) {
    const { code, output } = await run(file, [...args])
    if (code === 0) break
    outputs.push(`${file}: ${output}`)
  }
  // Whatever those said: another start may be creating the user at this moment.
  for (let attempt = 0; attempt < 20; attempt++) {
    const created = await lookUp()
    if (created !== undefined) return created
    await delay(100)
  }
  throw new EmbeddedPostgresError({
    step: 'account',
    reason:
      `PostgreSQL refuses to run as root, and the system user "${NAME}" is missing and could not be created. ` +
      'Create it, or run this as an ordinary user.',
    logTail: tail(outputs.join('\n')),
  })
}

async function lookUp(): Promise<Account | undefined> {
  const [uid, gid] = await Promise.all([run('id', ['-u', NAME]), run('id', ['-g', NAME])])
  if (uid.code !== 0 || gid.code !== 0) return undefined
  return { uid: Number(uid.output), gid: Number(gid.output) }
}
