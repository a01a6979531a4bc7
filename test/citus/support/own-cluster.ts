import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import pg from 'pg'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../../dev/postgres/embedded-postgres.ts'
import { atEnd } from '../../support/at-end.ts'
import { installedPrograms15 } from '../../support/installed-postgres-15.ts'
import { TEST_SETTINGS } from '../../support/settings.ts'
import { type Cluster, clusterOfRun } from './cluster.ts'

/** A cluster of one test file, whose nodes may be crashed. */
export interface OwnCluster extends Cluster {
  /** The servers of the workers, in the same order. */
  servers: EmbeddedPostgres[]
}

const SETTINGS = {
  ...TEST_SETTINGS,
  shared_preload_libraries: 'citus',
  max_prepared_transactions: '200',
  max_worker_processes: '32',
  wal_level: 'logical',
  // What a test waits for after a crash: transactions of two phases are brought to their end, deadlocks are seen.
  'citus.recover_2pc_interval': '1s',
}

/**
 * Starts a coordinator and two workers of the system's PostgreSQL 15, stopped at the file's end. A run without a cluster
 * gets a reason instead, because it is for those who test on Citus.
 */
export async function startOwnCluster(): Promise<OwnCluster | string> {
  const common = await clusterOfRun()
  if (typeof common === 'string') return common
  const binDirectory = installedPrograms15()
  if (binDirectory === null || !existsSync(join(binDirectory, '../lib/citus.so'))) {
    return 'Citus is not installed for the PostgreSQL 15 of this machine, so no node can be crashed'
  }
  const servers = await Promise.all(
    [0, 1, 2].map(() => startEmbeddedPostgres({ binDirectory, settings: SETTINGS })),
  )
  atEnd(() => Promise.all(servers.map(server => server.stop())))
  // One password for all, because the nodes connect to each other.
  const password = randomBytes(12).toString('hex')
  for (const server of servers) await setPassword(server, password)
  const [coordinator, ...workers] = servers.map(({ connectionString, port }) => ({
    host: '127.0.0.1',
    port,
    server: Object.assign(new URL(connectionString), { password }).href,
  }))
  return { coordinator: coordinator!, workers, servers: servers.slice(1) }
}

async function setPassword({ connectionString }: EmbeddedPostgres, password: string): Promise<void> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    await client.query(`ALTER ROLE postgres PASSWORD '${password}'`)
  } finally {
    await client.end()
  }
}
