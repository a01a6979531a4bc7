import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import pg from 'pg'
import type { EmbeddedPostgres } from '../../../dev/postgres/embedded-postgres.ts'
import { atEnd } from '../../support/at-end.ts'
import { installedPrograms15, startInstalledPostgres15 } from '../../support/installed-postgres-15.ts'
import type { Cluster, ClusterNode } from './cluster.ts'

/** A cluster of this test file alone, whose nodes it may crash. */
export interface OwnCluster extends Cluster {
  workerServers: EmbeddedPostgres[]
}

const SETTINGS = { shared_preload_libraries: 'citus', max_connections: '120' }
const WORKERS = 2

/** Starts a coordinator and two workers. Without Citus for the PostgreSQL 15 of this machine it skips the test. */
export async function startOwnCluster(t: TestContext): Promise<OwnCluster | null> {
  const programs = installedPrograms15()
  if (programs === null || !existsSync(join(programs, '../lib/citus.so'))) {
    t.skip('no Citus is installed beside a PostgreSQL 15 of this machine, so no node can be crashed')
    return null
  }
  const servers: EmbeddedPostgres[] = []
  for (let started = 0; started <= WORKERS; started++) {
    const server = (await startInstalledPostgres15(SETTINGS))!
    atEnd(() => server.stop())
    servers.push(server)
  }
  const [coordinator, ...workerServers] = servers
  await sharePassword(servers)
  const nodes = servers.map(node => nodeOf(node, coordinator!))
  return { coordinator: nodes[0]!, workers: nodes.slice(1), workerServers }
}

/** The nodes connect to each other with one password. */
async function sharePassword(servers: readonly EmbeddedPostgres[]): Promise<void> {
  const password = passwordOf(servers[0]!)
  for (const server of servers.slice(1)) {
    const client = new pg.Client(server.connectionString)
    await client.connect()
    await client.query(`ALTER ROLE postgres PASSWORD ${pg.escapeLiteral(password)}`)
    await client.end()
  }
}

function nodeOf({ port }: EmbeddedPostgres, coordinator: EmbeddedPostgres): ClusterNode {
  const url = new URL(coordinator.connectionString)
  url.port = String(port)
  return { host: '127.0.0.1', port, server: url.href }
}

function passwordOf({ connectionString }: EmbeddedPostgres): string {
  return decodeURIComponent(new URL(connectionString).password)
}
