import type { Queryable } from '../database/connection.ts'
import { answerWithin, connectWithin, isPool } from '../database/deadline.ts'
import type { ConnectionPool, PooledClient } from '../database/pool.ts'
import { isDirect } from '../database/settled-pool.ts'
import { ask, type Check, type Looked } from './check.ts'
import type { Finding } from './finding.ts'

/** The longest wait for a pooler that may have no second connection to the server, in milliseconds. */
const POOLER_WITHIN_MS = 3_000

/** A clock that is further apart is told. */
const CLOCKS_APART_SECONDS = 1

const ROUND_TRIPS = 3

/** Checks of what is between us and the server. */
export const CONNECTION_CHECKS: readonly Check[] = [
  {
    area: 'connection',
    name: 'pooler',
    look: async ({ connection, named }) => {
      if (!isPool(connection)) return { notChecked: 'it takes two connections, and this is not a pg Pool' }
      return await lookForPooler(connection, named)
    },
  },
  {
    area: 'connection',
    name: 'clock',
    look: async ({ db }) => {
      const { seconds, within } = await clockOffset(db)
      const isApart = Math.abs(seconds) - within > CLOCKS_APART_SECONDS
      return {
        seen: `${Math.abs(seconds).toFixed(2)} s apart`,
        findings: isApart ? [clocksApart(seconds)] : [],
      }
    },
  },
]

async function lookForPooler(pool: ConnectionPool, named: string | undefined): Promise<Looked> {
  const client = await connectWithin(pool, POOLER_WITHIN_MS)
  try {
    const dropped = named === undefined ? await optionsDropped(client) : []
    if (await isDirect(client)) return { seen: 'none', findings: dropped }
    const mode = await poolerMode(pool, client)
    return { seen: `a pooler, ${mode} mode`, findings: [poolerBetween(mode), ...dropped] }
  } finally {
    client.release(true)
  }
}

/**
 * Which mode the pooler has. A pooler hands out first what came back last. So in transaction mode another client gets the
 * connection that the first one has just used.
 */
async function poolerMode(
  pool: ConnectionPool,
  client: PooledClient,
): Promise<'transaction' | 'session' | 'unknown'> {
  const other = await connectWithin(pool, POOLER_WITHIN_MS)
  try {
    return await answerWithin(
      POOLER_WITHIN_MS,
      async () => {
        const first = await backendOf(client)
        for (let tries = 0; tries < 3; tries++) {
          await other.query('BEGIN READ ONLY')
          const taken = await backendOf(other)
          await other.query('ROLLBACK')
          if (taken === first || (await backendOf(client)) !== first) return 'transaction'
        }
        return 'session'
      },
      () => {},
    )
  } catch {
    // A pooler with one connection to the server lets the second client wait.
    return 'unknown'
  } finally {
    other.release(true)
  }
}

async function backendOf(client: Queryable): Promise<string> {
  const { rows } = await client.query('SELECT pg_backend_pid()::text AS pid')
  return (rows[0] as { pid: string }).pid
}

/** Whether a `search_path` in the connection string did not reach the session. */
async function optionsDropped(client: PooledClient): Promise<Finding[]> {
  const { connectionParameters } = client as { connectionParameters?: { options?: unknown } }
  const options = connectionParameters?.options
  if (typeof options !== 'string' || !/search_path/.test(options)) return []
  const { rows } = await client.query(`SELECT source FROM pg_catalog.pg_settings WHERE name = 'search_path'`)
  if ((rows[0] as { source: string }).source === 'client') return []
  return [
    {
      code: 'options-dropped',
      severity: 'critical',
      object: 'search_path',
      message:
        'The search_path of the connection string did not reach the session. A pooler between drops it.',
      remedy:
        'Name the schema (--schema), or set it for the role or the database: ALTER ROLE … SET search_path, or ALTER ' +
        'DATABASE … SET search_path.',
    },
  ]
}

function poolerBetween(mode: 'transaction' | 'session' | 'unknown'): Finding {
  return {
    code: 'pooler',
    severity: 'note',
    object: `${mode} mode`,
    message:
      'A pooler is between. Settings in the connection string, such as search_path, may be dropped or shared with others.' +
      (mode === 'session' ? ' Each worker and each tracker keeps its server connections for itself.' : ''),
    remedy:
      'Marks and workers need no more than transaction mode. Set search_path for the role or the database, and run ' +
      'migrate past the pooler.',
  }
}

/** How far the clock of the server is ahead of ours, and how exact that is: half of the quickest round trip. */
async function clockOffset(db: Parameters<typeof ask>[0]): Promise<{ seconds: number; within: number }> {
  let best = { seconds: 0, within: Number.POSITIVE_INFINITY }
  for (let i = 0; i < ROUND_TRIPS; i++) {
    const began = Date.now()
    const [row] = await ask<{ now: string }>(db, 'SELECT extract(epoch FROM clock_timestamp())::text AS now')
    const ended = Date.now()
    const within = (ended - began) / 2_000
    if (within < best.within) best = { seconds: Number(row!.now) - (began + ended) / 2_000, within }
  }
  return best
}

function clocksApart(seconds: number): Finding {
  return {
    code: 'clock',
    severity: 'warning',
    object: null,
    message:
      `The clock of the database is ${Math.abs(seconds).toFixed(1)} s ${seconds > 0 ? 'ahead of' : 'behind'} the clock ` +
      'of this machine. Usage is timed by the database alone, but ages that a service counts by its own clock are wrong.',
    remedy: 'Let both machines follow the same time server (NTP).',
  }
}
