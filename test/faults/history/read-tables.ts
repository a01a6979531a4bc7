import { setTimeout as delay } from 'node:timers/promises'
import type pg from 'pg'
import type { Found } from './judge.ts'
import { SOURCES, type Universe } from './universe.ts'

/** What the server itself counted. */
export interface ServerTotals {
  postgres: string
  deadlocks: number
  resets: number
  /** Connections that nobody closed, by their name and state. */
  leftConnections: string[]
}

/** Reads what the judge compares, and what the server counted. All other connections should be closed. */
export async function readTables(
  client: pg.Client,
  universe: Universe,
): Promise<{ found: Found; totals: ServerTotals }> {
  const leftConnections = await connectionsLeft(client)
  const { rows: counts } = await client.query<Omit<ServerTotals, 'leftConnections'> & { moved: number }>(
    `SELECT current_setting('server_version') AS postgres,
      (SELECT count(*)::int FROM pending_usage_reset) AS resets,
      (SELECT count(*)::int FROM moved_back) AS moved,
      (SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()) AS deadlocks`,
  )
  const { postgres, deadlocks, resets, moved } = counts[0]!
  const found: Found = {
    lastUsedAt: new Float64Array(universe.size).fill(Number.NaN),
    bySource: new Float64Array(universe.size * SOURCES.length).fill(Number.NaN),
    movedBack: moved,
  }
  const { rows: workspaces } = await client.query<{ id: string; ms: string | null }>(
    'SELECT id, (extract(epoch FROM last_used_at) * 1000)::text AS ms FROM workspaces',
  )
  for (const { id, ms } of workspaces) if (ms !== null) found.lastUsedAt[universe.numberOf(id)] = Number(ms)
  const { rows: uses } = await client.query<{ id: string; source: string; ms: string }>(
    `SELECT workspace_id AS id, source, (extract(epoch FROM max(last_used_at)) * 1000)::text AS ms FROM workspace_usage
    GROUP BY workspace_id, source`,
  )
  for (const { id, source, ms } of uses) {
    const place = SOURCES.indexOf(source)
    if (place === -1) throw new Error(`workspace_usage has a source that nobody used: ${source}`)
    found.bySource[place * universe.size + universe.numberOf(id)] = Number(ms)
  }
  return { found, totals: { postgres, deadlocks, resets, leftConnections } }
}

/** A backend ends a moment after its client. */
async function connectionsLeft(client: pg.Client): Promise<string[]> {
  const deadline = performance.now() + 10_000
  for (;;) {
    const { rows } = await client.query<{ left: string }>(
      `SELECT concat_ws(', ', application_name, state, left(query, 60)) AS left FROM pg_stat_activity
      WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()`,
    )
    if (rows.length === 0 || performance.now() > deadline) return rows.map(({ left }) => left)
    await delay(100)
  }
}
