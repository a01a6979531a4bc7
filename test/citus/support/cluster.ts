import pg from 'pg'

/** How a run of the tests gets a cluster: the connection string of a superuser to a coordinator of Citus. */
const URL_VARIABLE = 'CITUS_URL'

/**
 * Where this machine reaches the workers, as `host:port,host:port`, in the order in which they were added. Default: as
 * the coordinator reaches them, if its database has nodes.
 */
const WORKERS_VARIABLE = 'CITUS_WORKERS'

/** A node of a cluster, as the coordinator reaches it, and as this machine does. */
export interface ClusterNode {
  host: string
  port: number
  /** Connects the superuser to its database `postgres`, or to that of `CITUS_URL`. */
  server: string
}

/** A cluster on which databases may be created. */
export interface Cluster {
  coordinator: ClusterNode
  workers: ClusterNode[]
}

/** The cluster of this run, or the reason why there is none. */
export async function clusterOfRun(): Promise<Cluster | string> {
  const server = process.env[URL_VARIABLE]
  if (!server) return `${URL_VARIABLE} names no coordinator of Citus`
  const found = await nodesOf(server)
  const addresses = (process.env[WORKERS_VARIABLE] || undefined)?.split(',').map(text => text.trim())
  const workers = addresses
    ? addresses.map((address, number) => nodeAt(server, address, found.workers[number]))
    : found.workers.map(node => ({ ...node, server: at(server, node) }))
  if (workers.length === 0) {
    return `the database of ${URL_VARIABLE} has no nodes of Citus, and ${WORKERS_VARIABLE} names none`
  }
  const { hostname, port } = new URL(server)
  const coordinator = found.coordinator ?? { host: hostname, port: Number(port || 5432) }
  return { coordinator: { ...coordinator, server }, workers }
}

interface Address {
  host: string
  port: number
}

async function nodesOf(server: string): Promise<{ coordinator?: Address; workers: Address[] }> {
  const client = new pg.Client(server)
  await client.connect()
  try {
    const { rows: present } = await client.query("SELECT FROM pg_extension WHERE extname = 'citus'")
    if (present.length === 0) return { workers: [] }
    const { rows } = await client.query<Address & { first: boolean }>(
      `SELECT nodename AS host, nodeport AS port, groupid = 0 AS first FROM pg_dist_node
      WHERE noderole = 'primary' ORDER BY nodeid`,
    )
    const coordinator = rows.find(({ first }) => first)
    return { ...(coordinator && { coordinator }), workers: rows.filter(({ first }) => !first) }
  } finally {
    await client.end()
  }
}

function nodeAt(server: string, address: string, known: Address | undefined): ClusterNode {
  const { hostname: host, port } = new URL(`postgres://${address}`)
  const reached = { host, port: Number(port || 5432) }
  return { ...(known ?? reached), server: at(server, reached) }
}

function at(server: string, { host, port }: Address): string {
  return Object.assign(new URL(server), { hostname: host, port: String(port) }).href
}
