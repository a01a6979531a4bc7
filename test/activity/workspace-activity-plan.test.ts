import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { type Execution, execution } from '../support/plan.ts'
import { onPostgres15 } from '../support/postgres-15.ts'

const WORKSPACES = 20_000
const PENDING = 10_000

/**
 * The most pages of a lookup: a few levels of a few indexes, for each of four periods, and what no_hidden_usage() reads
 * of catalogs: 65 to 81 were seen. A whole index has more.
 */
const LOOKUP_PAGES = 100

/** The most runs of a node when everything is read: each node runs a few times, not once for each workspace. */
const SCAN_LOOPS = 100

test('the views have good plans whatever statistics the planner has of pending_usage', async () => {
  await holdsPlans(await createTestDatabase())
})

test('the views have good plans on PostgreSQL 15 as well', async t => {
  await onPostgres15(t, holdsPlans)
})

async function holdsPlans(database: TestDatabase): Promise<void> {
  const { pool } = database
  for (const table of ['pending_usage', 'set_aside_usage']) {
    await pool.query(`ALTER TABLE ${table} SET (autovacuum_enabled = off)`)
  }
  const ids = await createUsedWorkspaces(pool)
  const marked = ids.filter((_, index) => index % (WORKSPACES / PENDING) === 0)
  const store = async () => {
    await pool.query(
      `INSERT INTO pending_usage
      SELECT date_trunc('minute', now()) - n % 4 * interval '30 s', id, 'ssh'
      FROM unnest($1::uuid[]) WITH ORDINALITY AS marked (id, n)`,
      [marked],
    )
    // What is set aside is of many periods. It does not slow down a lookup either.
    await pool.query(
      `INSERT INTO set_aside_usage (period_end, workspace_id, source, reason, next_attempt_at)
      SELECT date_trunc('minute', now()) - n * interval '30 s', id, 'ssh', 'awaited', now()
      FROM unnest($1::uuid[]) WITH ORDINALITY AS aside (id, n)`,
      [ids.filter((_, index) => index % 10 === 1)],
    )
  }
  const beliefs: Record<string, () => Promise<void>> = {
    'nothing, never having analyzed it': store,
    'that it is empty': async () => {
      await store()
      await pool.query('DELETE FROM pending_usage')
      await pool.query('VACUUM ANALYZE pending_usage, set_aside_usage')
      await store()
    },
    'the truth': async () => {
      await store()
      await pool.query('ANALYZE pending_usage, set_aside_usage')
    },
  }
  for (const [belief, bringAbout] of Object.entries(beliefs)) {
    await pool.query('TRUNCATE pending_usage')
    await bringAbout()
    for (const view of ['workspace_activity', 'workspace_activity_by_source']) {
      await holdsLookup(
        database,
        `SELECT * FROM ${view} WHERE workspace_id = $1`,
        [marked[7]!, ids[1]!],
        belief,
      )
      await holdsScan(database, `SELECT * FROM ${view}`, belief)
    }
    const idle = await holdsScan(
      database,
      `SELECT workspace_id FROM workspace_activity WHERE last_used_at < now() - interval '30 days'
      ORDER BY last_used_at, workspace_id LIMIT 1000`,
      belief,
    )
    // Nobody asks for the source, and all sources count.
    const history = idle.nodes.filter(({ relation }) => relation?.startsWith('workspace_usage'))
    assert.ok(!history.some(({ loops }) => loops > 0), idle.text)
  }
}

/** Workspaces with two sources each. Returns their ids, sorted. */
async function createUsedWorkspaces(pool: TestDatabase['pool']): Promise<string[]> {
  // The role `replica` saves the second INSERT its 40,000 checks of the foreign key.
  await pool.query(`
    BEGIN;
    INSERT INTO workspaces (last_used_at) SELECT now() - interval '1 h' FROM generate_series(1, ${WORKSPACES});
    SET LOCAL session_replication_role = replica;
    INSERT INTO workspace_usage SELECT id, source, last_used_at - length(source) * interval '1 s'
    FROM workspaces, unnest(ARRAY['ssh', 'vscode']) AS source;
    INSERT INTO workspace_usage_day (workspace_id, source, last_used_at, day, first_used_at, slots)
    SELECT id, source, last_used_at - n * interval '1 day', current_date - n, last_used_at - n * interval '1 day', (1)::bit(288)
    FROM workspaces, unnest(ARRAY['ssh', 'vscode']) AS source, generate_series(0, 2) AS n;
    COMMIT`)
  await pool.query('VACUUM ANALYZE workspaces, workspace_usage, workspace_usage_day')
  const { rows } = await pool.query('SELECT id FROM workspaces ORDER BY id')
  return rows.map(({ id }) => id)
}

async function holdsLookup(database: TestDatabase, lookup: string, ids: string[], belief: string) {
  const client = await database.connect()
  await client.query(`PREPARE lookup (uuid) AS ${lookup}`)
  // The first call in a session compiles no_hidden_usage(), and that reads catalogs.
  await client.query(`EXECUTE lookup ('${ids[0]}')`)
  for (const mode of ['force_custom_plan', 'force_generic_plan']) {
    await client.query(`SET plan_cache_mode = ${mode}`)
    for (const id of ids) {
      const { nodes, pages, text } = await execution(client, `EXECUTE lookup ('${id}')`)
      const message = `${lookup}, ${mode}, believing ${belief}: ${pages} pages\n${text}`
      // The witness is read only among many dead marks, and is one row. Sources are few.
      const scans = nodes.filter(({ type, relation }) => type === 'Seq Scan' && relation !== 'source_usage')
      assert.ok(!scans.some(({ loops }) => loops > 0), message)
      assert.ok(pages <= LOOKUP_PAGES, message)
    }
  }
  await client.end()
}

async function holdsScan({ pool }: TestDatabase, scan: string, belief: string): Promise<Execution> {
  const done = await execution(pool, scan)
  const message = `${scan}, believing ${belief}\n${done.text}`
  assert.ok(Math.max(...done.nodes.map(({ loops }) => loops)) <= SCAN_LOOPS, message)
  return done
}
