import { randomBytes } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { configure, copyAsStandby, initialise } from './cluster.ts'
import type { Account } from './command.ts'
import { EmbeddedPostgresError } from './embedded-postgres-error.ts'
import { freePort } from './free-port.ts'
import { Postmaster, type ShutdownMode } from './postmaster.ts'
import { serverAccount } from './server-account.ts'
import { findBinaries, reachableBinaries } from './server-binaries.ts'
import { makeServerDirectory, type ServerDirectory } from './server-directory.ts'

/** What may differ from one embedded server to the next. Must survive JSON. */
export interface ServerOptions {
  /** Absolute directory of the `initdb` and `postgres` to use. Default: PostgreSQL 18 from npm. */
  binDirectory?: string
  /** Lines of `postgresql.conf`, such as `{ max_connections: '200' }`. Default: PostgreSQL's own. */
  settings?: Record<string, string>
  /**
   * A server of the same version that is shut down cleanly: the new one is its standby, and has its password.
   */
  standbyOf?: { dataDirectory: string; connectionString: string }
}

const PORT_ATTEMPTS = 10

/**
 * One PostgreSQL in a directory of its own: made once, started and stopped at will, removed. One call at a
 * time.
 */
export class EmbeddedServer {
  readonly directory: ServerDirectory
  readonly password: string
  readonly #postgres: string
  readonly #account: Account | undefined
  #port: number | undefined
  #postmaster: Postmaster | undefined

  private constructor(
    directory: ServerDirectory,
    password: string,
    postgres: string,
    account: Account | undefined,
  ) {
    this.directory = directory
    this.password = password
    this.#postgres = postgres
    this.#account = account
  }

  /**
   * Makes the directory and runs initdb; starts nothing.
   * @throws EmbeddedPostgresError, with nothing left behind.
   */
  static async create({ binDirectory, settings = {}, standbyOf }: ServerOptions): Promise<EmbeddedServer> {
    const [found, account] = await Promise.all([findBinaries(binDirectory), serverAccount()])
    const directory = await makeServerDirectory(account)
    try {
      const { initdb, postgres } =
        account === undefined ? found : await reachableBinaries(found, account, directory.programs)
      const password =
        standbyOf === undefined
          ? randomBytes(18).toString('base64url')
          : new URL(standbyOf.connectionString).password
      if (standbyOf === undefined) await initialise(initdb, directory, password, account)
      else await copyAsStandby(standbyOf, directory, account)
      // No UNIX socket: the path of one is limited to about 100 characters, which a temporary directory may
      // exceed.
      await configure(directory, { listen_addresses: '127.0.0.1', unix_socket_directories: '', ...settings })
      return new EmbeddedServer(directory, password, postgres, account)
    } catch (error) {
      await rm(directory.root, { recursive: true, force: true })
      throw error
    }
  }

  /** The port on 127.0.0.1, chosen by the first start and kept for those after it. */
  get port(): number {
    if (this.#port === undefined) throw new Error('a server has no port before its first start')
    return this.#port
  }

  /**
   * Starts PostgreSQL, if it isn't running, and waits until it accepts connections.
   * @throws EmbeddedPostgresError
   */
  async start(): Promise<void> {
    if (this.#postmaster?.running) return
    for (let attempt = 1; ; attempt++) {
      const port = this.#port ?? (await freePort())
      await configure(this.directory, { port: String(port) })
      try {
        this.#postmaster = await Postmaster.start(this.#postgres, this.directory, this.#account)
        this.#port = port
        return
      } catch (error) {
        // Somebody may have taken the port between our look and the server's.
        const taken = error instanceof EmbeddedPostgresError && /could not bind/.test(error.logTail)
        if (!taken || attempt === PORT_ATTEMPTS) throw error
      }
    }
  }

  /** Stops PostgreSQL and waits for its end; a no-op if it isn't running. */
  async stop(mode: ShutdownMode): Promise<void> {
    await this.#postmaster?.stop(mode)
  }

  /** Stops PostgreSQL and removes all that was made for it. */
  async remove(): Promise<void> {
    // Nothing is needed again, so no checkpoint.
    await this.stop('immediate')
    await rm(this.directory.root, { recursive: true, force: true, maxRetries: 3 })
  }

  /** Ends PostgreSQL without waiting, for a process that ends in disorder. */
  abandon(): void {
    this.#postmaster?.signal('immediate')
  }
}
