import { randomBytes } from 'node:crypto'
import { basename } from 'node:path'
import { test } from 'node:test'
import pg from 'pg'
import { migrate } from '../../../src/schema/migrate.ts'
import { atEnd } from '../../support/at-end.ts'
import { TestDatabase } from '../../support/database.ts'
import { setPeriodLength } from '../../support/period.ts'
import { until } from '../../support/poll.ts'
import { administer, createDatabase, dropDatabase, urlOf } from '../../support/template.ts'
import { type Cluster, type ClusterNode, clusterOfRun } from './cluster.ts'

const QUIET = { debug() {}, info() {}, warn() {}, error() {} }

/** A database of its own on each node of a cluster. As a `TestDatabase` it is that of the coordinator. */
export class ClusterDatabase extends TestDatabase {
  readonly cluster: Cluster
  /** The connection strings of the workers, as superuser. */
  readonly workers: readonly string[]
  #droppedAll: Promise<void> | undefined

  constructor(cluster: Cluster, name: string) {
    super(cluster.coordinator.server, name)
    this.cluster = cluster
    this.workers = cluster.workers.map(({ server }) => urlOf(server, name))
  }

  override drop(): Promise<void> {
    this.#droppedAll ??= this.#dropAll()
    return this.#droppedAll
  }

  /** Runs statements on each node by itself, not through Citus. */
  async onEachNode(statements: readonly string[], parameters: readonly unknown[][] = []): Promise<void> {
    await Promise.all(
      [this.connectionString, ...this.workers].map(async connectionString => {
        const client = new pg.Client({ connectionString })
        await client.connect()
        try {
          for (const [index, statement] of statements.entries()) {
            await client.query(statement, parameters[index])
          }
        } finally {
          await client.end()
        }
      }),
    )
  }

  /** Brings transactions to their end that a killed session has left prepared on other nodes. */
  async recover(): Promise<void> {
    await this.onEachNode(['SELECT recover_prepared_transactions()'])
  }

  async #dropAll(): Promise<void> {
    // Who left them is gone, or ends with the database of the coordinator.
    await this.recover().catch(() => {})
    await this.#dropOn(this.cluster.coordinator.server)
    await super.drop()
    await Promise.all(this.workers.map(rollBackPrepared))
    const name = pg.escapeIdentifier(this.name)
    const servers = this.cluster.workers.map(({ server }) => server)
    for (const server of servers) await administer(server, `ALTER DATABASE ${name} ALLOW_CONNECTIONS false`)
    for (const server of servers) await this.#dropOn(server)
  }

  /** The maintenance of Citus connects from node to node, also while the database is dropped. */
  async #dropOn(server: string): Promise<void> {
    await until('a database is dropped', () => dropDatabase(server, this.name).then(() => true), {
      timeoutMs: 30_000,
    })
  }
}

async function rollBackPrepared(connectionString: string): Promise<void> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    const { rows } = await client.query<{ gid: string }>(
      'SELECT gid FROM pg_prepared_xacts WHERE database = current_database()',
    )
    for (const { gid } of rows) await client.query(`ROLLBACK PREPARED ${pg.escapeLiteral(gid)}`)
  } finally {
    await client.end()
  }
}

/** Creates a database with Citus on each node of a cluster, and adds the nodes. Nothing is migrated. */
export async function createEmptyClusterDatabase(cluster: Cluster): Promise<ClusterDatabase> {
  const testFile = basename(process.argv[1] ?? '', '.test.ts')
  const { coordinator, workers } = cluster
  const name = await createDatabase(coordinator.server, `citus_${testFile}`, 'template0')
  const database = new ClusterDatabase(cluster, name)
  atEnd(() => database.drop())
  for (const { server } of workers) {
    await administer(server, `CREATE DATABASE ${pg.escapeIdentifier(name)} TEMPLATE template0`)
  }
  const { username, password } = new URL(coordinator.server)
  await database.onEachNode(['CREATE EXTENSION citus'])
  await letConnect(database, decodeURIComponent(username), decodeURIComponent(password))
  await oneAtATime(coordinator, async () => {
    await database.pool.query('SELECT citus_set_coordinator_host($1, $2)', addressOf(coordinator))
    for (const worker of workers)
      await database.pool.query('SELECT citus_add_node($1, $2)', addressOf(worker))
  })
  return database
}

/** How a database is prepared. */
export interface DatabaseOptions {
  /** The length of a period. Default: as `migrate` leaves it. */
  periodSeconds?: number
  /** The shards of each table. Default 8: fewer than the 32 of Citus, because each one costs time in each statement. */
  shards?: number
}

/**
 * Defines the tests of a file on a migrated database of its own, with the tables distributed. Without a cluster there is
 * one test, which is skipped.
 */
export async function withClusterDatabase(
  options: DatabaseOptions,
  define: (database: ClusterDatabase) => unknown,
): Promise<void> {
  const cluster = await clusterOfRun()
  if (typeof cluster === 'string') test('on a Citus cluster', { skip: cluster }, () => {})
  else await define(await createClusterDatabase(cluster, options))
}

/** A migrated database on a cluster. */
export async function createClusterDatabase(
  cluster: Cluster,
  { periodSeconds, shards = 8 }: DatabaseOptions = {},
): Promise<ClusterDatabase> {
  const database = await createEmptyClusterDatabase(cluster)
  const name = pg.escapeIdentifier(database.name)
  await database.pool.query(`ALTER DATABASE ${name} SET citus.shard_count = ${shards}`)
  await migrate({ connectionString: database.connectionString, citus: true, logger: QUIET })
  if (periodSeconds !== undefined) await setPeriodLength(database.pool, periodSeconds)
  return database
}

/** A role that may log in on each node, and nothing else. Dropped at the file's end. */
export async function createClusterRole(
  database: ClusterDatabase,
  purpose: string,
): Promise<{ name: string; at(connectionString: string): string }> {
  const name = `usage ${purpose} "${randomBytes(4).toString('hex')}"`
  const password = randomBytes(9).toString('hex')
  const role = pg.escapeIdentifier(name)
  await database.pool.query(`CREATE ROLE ${role} LOGIN PASSWORD '${password}'`)
  await letConnect(database, name, password)
  atEnd(async () => {
    await database.drop()
    for (const { server } of [database.cluster.coordinator, ...database.cluster.workers]) {
      await administer(server, `DROP ROLE IF EXISTS ${role}`)
    }
  })
  return {
    name,
    at: connectionString => {
      const url = new URL(connectionString)
      url.username = encodeURIComponent(name)
      url.password = password
      return url.href
    },
  }
}

/** The nodes connect to each other as the role of the session, and need its password. */
async function letConnect(database: ClusterDatabase, role: string, password: string): Promise<void> {
  if (password === '') return
  const statement = 'INSERT INTO pg_dist_authinfo (nodeid, rolename, authinfo) VALUES ($1, $2, $3)'
  const rows = [0, -1].map(node => [node, role, `password=${password}`])
  await database.onEachNode(
    rows.map(() => statement),
    rows,
  )
}

/** Citus writes all roles anew on a node that it adds, and two test files would write the same rows. */
async function oneAtATime({ server }: ClusterNode, run: () => Promise<void>): Promise<void> {
  const client = new pg.Client({ connectionString: server })
  await client.connect()
  try {
    await client.query("SELECT pg_advisory_lock(hashtext('workspace-usage tests'))")
    await run()
  } finally {
    await client.end()
  }
}

function addressOf({ host, port }: ClusterNode): [string, number] {
  return [host, port]
}
