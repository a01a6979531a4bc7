import { SUPERUSER } from './cluster.ts'
import type { ServerOptions } from './embedded-server.ts'
import type { ServerFacts } from './embedded-supervisor.ts'
import type { ShutdownMode } from './postmaster.ts'
import { Supervisor } from './supervisor.ts'

export type { ServerOptions, ShutdownMode }

/**
 * Starts a real PostgreSQL for development: 127.0.0.1 only, on a free port, with a random password and an
 * empty database, in a temporary directory. It ends, and the directory goes, when `stop` is called or this
 * process ends in whatever way; this process does not stay alive for it.
 * @throws EmbeddedPostgresError if it can't be started; nothing is left behind then.
 */
export async function startEmbeddedPostgres(options: ServerOptions = {}): Promise<EmbeddedPostgres> {
  const supervisor = new Supervisor()
  try {
    const facts = await supervisor.request({ action: 'create', options })
    return new EmbeddedPostgres(supervisor, facts!)
  } catch (error) {
    // Where the supervisor is what failed, there is nobody left to dismiss.
    await supervisor.dismiss().catch(() => {})
    throw error
  }
}

/** A server of `startEmbeddedPostgres`. */
export class EmbeddedPostgres implements AsyncDisposable {
  /** Of the superuser, to the database `postgres`. */
  readonly connectionString: string
  /** On 127.0.0.1; the same after a restart. */
  readonly port: number
  /** Absolute; gone after `stop`. */
  readonly dataDirectory: string
  /** The server's own log, absolute; gone after `stop`. */
  readonly logFile: string
  readonly #supervisor: Supervisor

  constructor(supervisor: Supervisor, facts: ServerFacts) {
    this.#supervisor = supervisor
    this.port = facts.port
    this.dataDirectory = facts.dataDirectory
    this.logFile = facts.logFile
    this.connectionString = `postgresql://${SUPERUSER}:${facts.password}@127.0.0.1:${facts.port}/postgres`
  }

  /** Stops the server for good and removes its directory. A second call waits for the first. */
  async stop(): Promise<void> {
    await this.#supervisor.dismiss()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  /** Stops the server and keeps its directory, for `startUp`. Default: cleanly. A no-op if it is down. */
  async shutDown(mode: ShutdownMode = 'fast'): Promise<void> {
    await this.#supervisor.request({ action: 'stop', mode })
  }

  /**
   * Starts the server again after `shutDown`, on the same port. A no-op if it is up.
   * @throws EmbeddedPostgresError
   */
  async startUp(): Promise<void> {
    await this.#supervisor.request({ action: 'start' })
  }

  /**
   * Stops the server cleanly and starts it again: UNLOGGED tables keep their rows.
   * @throws EmbeddedPostgresError
   */
  async restart(): Promise<void> {
    await this.shutDown('fast')
    await this.startUp()
  }

  /**
   * Crashes the server and starts it again: it recovers, UNLOGGED tables are empty.
   * @throws EmbeddedPostgresError
   */
  async crash(): Promise<void> {
    await this.shutDown('immediate')
    await this.startUp()
  }
}
