import { type ChildProcess, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { chownSync, mkdirSync } from 'node:fs'
import { open, readFile } from 'node:fs/promises'
import type { Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { EmbeddedPostgresError, type EmbeddedPostgresStep } from './embedded-postgres-error.ts'
import { type Account, canReach, OURSELVES } from './server-account.ts'

// `read` ends when the process at the other end of standard input ends. A server removes its lock file when it stops.
// The directory may need a second attempt, because initdb may still write there.
const WATCHDOG = `
read -r nothing
while [ -e "$1" ]; do
  while read -r pid <"$1/data/postmaster.pid" && kill -QUIT "$pid"; do sleep 0.02; done
  rm -rf "$1" || sleep 0.02
done`

/**
 * The directory of one server: its data, its log, and a copy of its programs if needed. When this process ends, even by
 * a kill, a watchdog stops the server and removes the directory. The watchdog does not keep this process alive.
 */
export class ServerDirectory {
  readonly path: string
  readonly data: string
  readonly log: string
  readonly #account: Account
  readonly #watchdog: ChildProcess
  readonly #removed: Promise<unknown>

  /**
   * Makes the directory in the usual temporary directory, or in `/tmp` if the server's account can't enter that one.
   */
  static async make(account: Account): Promise<ServerDirectory> {
    const parent = (await canReach(account, tmpdir())) ? tmpdir() : '/tmp'
    return new ServerDirectory(resolve(parent, `workspace-usage-postgres-${randomUUID()}`), account)
  }

  private constructor(path: string, account: Account) {
    this.path = path
    this.data = join(path, 'data')
    this.log = join(path, 'server.log')
    this.#account = account
    const args = ['-c', WATCHDOG, 'watchdog of an embedded PostgreSQL', path]
    // `detached` gives it a session of its own, so that Ctrl-C does not reach it.
    this.#watchdog = spawn('/bin/sh', args, { cwd: '/', detached: true, stdio: ['pipe', 'ignore', 'ignore'] })
    this.#removed = once(this.#watchdog, 'exit')
    this.#watchdog.unref()
    ;(this.#watchdog.stdin as Socket).unref()
    // The directory comes last, so that it never exists without its watchdog.
    mkdirSync(path, { mode: 0o700 })
    this.give(path)
  }

  /** Makes the server's account the owner of a file. */
  give(file: string): void {
    chownSync(file, this.#account.uid, this.#account.gid)
  }

  /** Stops the server and removes the directory. A second call waits for the first. */
  async remove(): Promise<void> {
    this.#watchdog.ref()
    this.#watchdog.stdin!.destroy()
    await this.#removed
  }

  /**
   * Returns a directory in which the server's account can run the programs of `bin`: `bin` itself, or a copy.
   *
   * @throws EmbeddedPostgresError if they do not run
   */
  async reachablePrograms(bin: string): Promise<string> {
    await this.run('find', join(bin, 'initdb'), ['--version'], OURSELVES)
    if (await canReach(this.#account, join(bin, 'postgres'))) return bin
    // The whole parent directory is copied, because the programs find their libraries there.
    const copy = 'cp -R "$1" programs && chmod -R go=u-w programs'
    await this.run('find', '/bin/sh', ['-c', copy, 'sh', dirname(bin)], OURSELVES)
    return join(this.path, 'programs', basename(bin))
  }

  /**
   * Runs a program to its end, with its output in the log. Ctrl-C does not reach it.
   *
   * @param args with relative paths, so that a program can't create the directory again after it was removed
   * @param account default: the server's
   * @throws EmbeddedPostgresError if it fails, with its output
   */
  async run(
    step: EmbeddedPostgresStep,
    program: string,
    args: string[],
    account = this.#account,
  ): Promise<void> {
    await using log = await open(this.log, 'a', 0o600)
    const { size } = await log.stat()
    const child = spawn(program, args, {
      ...account,
      cwd: this.path,
      detached: true,
      // Variables such as PGHOST would name another server, and LANG would change the language of messages.
      env: { PATH: process.env.PATH },
      stdio: ['ignore', log.fd, log.fd],
    })
    const [end] = await once(child, 'exit').catch(error => [error])
    if (end === 0) return
    const found =
      step === 'find' ? 'does not run; if npm skipped install scripts, run `npm rebuild`' : 'failed'
    const output = (await readFile(this.log)).subarray(size).toString()
    throw new EmbeddedPostgresError(step, `${program} ${found} (${end ?? child.signalCode}).`, output)
  }
}
