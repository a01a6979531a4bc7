import { basename } from 'node:path'
import { Kysely, PostgresDialect } from 'kysely'
import pg from 'pg'
import type { UsageSchema } from '../../src/schema/tables.ts'
import { atEnd } from './at-end.ts'
import { RUN_VARIABLE, SERVER_15_VARIABLE } from './settings.ts'
import {
  createDatabase,
  createTemplate,
  dropDatabase,
  dropDatabasesOfRun,
  migrateDatabase,
  TEMPLATE,
  urlOf,
} from './template.ts'
import { testServer } from './test-server.ts'

let template: Promise<string> | undefined

/**
 * A migrated database of its own for the calling test file (or test), dropped at the file's end at the latest.
 * @param on connection string of another server than the common one
 */
export async function createTestDatabase({ on }: { on?: string } = {}): Promise<TestDatabase> {
  if (on !== undefined && on === process.env[SERVER_15_VARIABLE]) return create(on, TEMPLATE)
  if (on !== undefined) {
    const database = await createEmptyDatabase({ on })
    await migrateDatabase(database.connectionString)
    return database
  }
  const server = await testServer()
  template ??= templateOn(server)
  return create(server, await template)
}

/** Like `createTestDatabase`, but empty: nothing is migrated. */
export async function createEmptyDatabase({ on }: { on?: string } = {}): Promise<TestDatabase> {
  return create(on ?? (await testServer()), 'template0')
}

async function templateOn(server: string): Promise<string> {
  if (process.env[RUN_VARIABLE] === undefined) {
    atEnd(() => dropDatabasesOfRun(server))
    await createTemplate(server)
  }
  return TEMPLATE
}

async function create(server: string, template: string): Promise<TestDatabase> {
  const testFile = basename(process.argv[1] ?? '', '.test.ts')
  const database = new TestDatabase(server, await createDatabase(server, testFile, template))
  atEnd(() => database.drop())
  return database
}

/** A database that one test file has to itself. */
export class TestDatabase implements AsyncDisposable {
  readonly name: string
  /** Connects the superuser of the server to this database. */
  readonly connectionString: string
  /** At most 60 connections at once. A lost connection is no error of the test. */
  readonly pool: pg.Pool
  readonly kysely: Kysely<UsageSchema>
  readonly #server: string
  readonly #clients: pg.Client[] = []
  #dropped: Promise<void> | undefined

  constructor(server: string, name: string) {
    this.#server = server
    this.name = name
    this.connectionString = urlOf(server, name)
    this.pool = new pg.Pool({ connectionString: this.connectionString, max: 60 })
    this.pool.on('error', () => {})
    this.pool.on('connect', client => client.on('error', () => {}))
    this.kysely = new Kysely({ dialect: new PostgresDialect({ pool: this.pool }) })
  }

  /** A new connection, closed with the database at the latest. If it is lost, only its queries fail. */
  async connect(config: pg.ClientConfig = {}): Promise<pg.Client & { processID: number }> {
    const client = new pg.Client({ connectionString: this.connectionString, ...config })
    client.on('error', () => {})
    await client.connect()
    this.#clients.push(client)
    return client as pg.Client & { processID: number }
  }

  /** Ends every connection, whosever it is, and drops the database. A second call waits for the first. */
  drop(): Promise<void> {
    this.#dropped ??= this.#drop()
    return this.#dropped
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.drop()
  }

  async #drop(): Promise<void> {
    await dropDatabase(this.#server, this.name)
    await Promise.all(this.#clients.map(client => client.end().catch(() => {})))
    // Not awaited, because it never ends if a test did not release a connection.
    void this.pool.end()
  }
}
