import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { open, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Account, serverEnvironment } from './command.ts'
import { EmbeddedPostgresError, tail } from './embedded-postgres-error.ts'
import type { ServerDirectory } from './server-directory.ts'

/**
 * `fast` is PostgreSQL's clean shutdown; `immediate` is what a crash leaves, so UNLOGGED tables come back
 * empty.
 */
export type ShutdownMode = 'fast' | 'immediate'

const START_TIMEOUT_MS = 60_000

/** One run of a server, from its start to its end. A child of this process, which must outlive it. */
export class Postmaster {
  readonly #child: ChildProcess
  readonly #ended: Promise<unknown>

  private constructor(child: ChildProcess) {
    this.#child = child
    this.#ended = once(child, 'exit')
  }

  /**
   * Starts a server and waits until it accepts connections.
   * @throws EmbeddedPostgresError, with nothing left running, if it ends before that or takes longer than 60
   * s.
   */
  static async start(
    postgres: string,
    directory: ServerDirectory,
    account: Account | undefined,
  ): Promise<Postmaster> {
    const log = await open(directory.log, 'a', 0o600)
    const { size: logged } = await log.stat()
    const child = spawn(postgres, ['-D', directory.data], {
      ...account,
      cwd: directory.root,
      env: serverEnvironment(),
      stdio: ['ignore', log.fd, log.fd],
    })
    const postmaster = new Postmaster(child)
    // A failure to spawn shows as the end of the child, below.
    postmaster.#ended.catch(() => {})
    await log.close()

    const deadline = Date.now() + START_TIMEOUT_MS
    while (!(await isReady(directory, child.pid))) {
      const late = Date.now() > deadline
      if (!late && postmaster.running) {
        await Promise.race([delay(20), postmaster.#ended])
        continue
      }
      await postmaster.stop('immediate')
      throw new EmbeddedPostgresError({
        step: 'start',
        reason: late
          ? `${postgres} was not ready within ${START_TIMEOUT_MS / 1000} s.`
          : `${postgres} ended before it was ready, with ${child.exitCode ?? child.signalCode ?? 'no code'}.`,
        logTail: tail((await readFile(directory.log)).subarray(logged).toString()),
      })
    }
    return postmaster
  }

  get running(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Stops the server and waits for its end; a no-op if it ended already. */
  async stop(mode: ShutdownMode): Promise<void> {
    if (!this.running) return
    this.signal(mode)
    await this.#ended
  }

  /** Tells the server to stop, and does not wait. */
  signal(mode: ShutdownMode): void {
    this.#child.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
  }
}

// The server keeps its process id in the first line of its lock file, and its state in the eighth.
async function isReady({ data }: ServerDirectory, pid: number | undefined): Promise<boolean> {
  const lockFile = await readFile(join(data, 'postmaster.pid'), 'utf8').catch(() => '')
  const lines = lockFile.split('\n')
  return lines[0] === String(pid) && /^(ready|standby) *$/.test(lines[7] ?? '')
}
