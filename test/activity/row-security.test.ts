import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { explainUsage } from '../../src/activity/explain.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { lastFlush } from '../../src/activity/last-flush.ts'
import { refusedWorkspaces } from '../../src/activity/refused.ts'
import { pendingStatus } from '../../src/activity/status.ts'
import { RowSecurityError } from '../../src/errors.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'

for (const [version, server] of Object.entries({ 18: testServer, 15: testServer15 })) {
  test(`readers get an error if row security hides workspaces from the owner of the views, on PostgreSQL ${version}`, async t => {
    const url = await server()
    if (url === null) t.skip(POSTGRES_15_MISSING)
    else await refusesWhatIsHidden(url)
  })

  test(`status is refused if row security hides marks from its role, on PostgreSQL ${version}`, async t => {
    const url = await server()
    if (url === null) t.skip(POSTGRES_15_MISSING)
    else await refusesHiddenMarks(url)
  })

  test(`row security of a table below an adopted view "workspaces" is noticed, on PostgreSQL ${version}`, async t => {
    const url = await server()
    if (url === null) t.skip(POSTGRES_15_MISSING)
    else await refusesBelowAdoptedView(url)
  })
}

async function refusesHiddenMarks(server: string): Promise<void> {
  const role = await createLoginRole(server, 'watcher')
  const database = await createTestDatabase({ on: server })
  const { pool } = database
  await pool.query(`GRANT SELECT ON ALL TABLES IN SCHEMA public TO ${pg.escapeIdentifier(role.name)}`)
  const watcher = role.pool(database)
  const reads = {
    pending_usage: () => pendingStatus(watcher),
    set_aside_usage: () => pendingStatus(watcher),
    pending_usage_witness: () => lastFlush(watcher),
    refused_usage: () => refusedWorkspaces(watcher),
  }
  for (const [table, read] of Object.entries(reads)) {
    await read()
    await pool.query(`ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY`)
    await assert.rejects(read, new RowSecurityError(table, role.name))
    await pool.query(`ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY`)
  }
}

async function refusesWhatIsHidden(server: string): Promise<void> {
  const [owner, host] = [await roleOn(server, 'owner'), await roleOn(server, 'host')]
  const database = await createTestDatabase({ on: server })
  const { pool } = database
  const [id] = await createWorkspaces(pool, 1)
  await pool.query(`
    GRANT SELECT ON workspaces, workspace_usage, workspace_usage_day, pending_usage, set_aside_usage, source_usage
      TO ${owner};
    ALTER VIEW workspace_activity OWNER TO ${owner};
    ALTER VIEW workspace_activity_by_source OWNER TO ${owner};
    ALTER TABLE workspaces OWNER TO ${host}`)
  const holds = async (visible: boolean, when: string) => {
    for (const [reader, read] of Object.entries(readers(database, id!))) {
      if (visible) await read()
      else await assert.rejects(read, isHiding('workspaces'), `${reader}, ${when}`)
    }
  }
  await holds(true, 'without row security')
  await pool.query('ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY')
  await holds(false, 'with row security')
  await pool.query(`GRANT ${host} TO ${owner}`)
  await holds(true, 'if the owner of the views inherits from the owner of the table')
  await pool.query('ALTER TABLE workspaces FORCE ROW LEVEL SECURITY')
  await holds(false, 'with FORCE')
  await pool.query(`ALTER ROLE ${owner} BYPASSRLS`)
  await holds(true, 'with BYPASSRLS')
}

async function refusesBelowAdoptedView(server: string): Promise<void> {
  const host = await roleOn(server, 'host')
  const database = await createTestDatabase({ on: server })
  const { pool } = database
  const [id] = await createWorkspaces(pool, 1)
  // What an adopted host looks like: the views of this package read a view.
  await pool.query(`
    CREATE TABLE host_machines (machine uuid PRIMARY KEY, seen timestamptz);
    ALTER TABLE host_machines ENABLE ROW LEVEL SECURITY;
    CREATE VIEW adopted AS SELECT machine AS id, seen AS last_used_at FROM host_machines;
    ALTER VIEW adopted OWNER TO ${host};
    GRANT SELECT ON host_machines TO ${host}`)
  const check = (view: string) =>
    pool.query(
      `SELECT FROM no_hidden_usage('workspace_activity', ARRAY['pending_usage', '${view}']::regclass[])`,
    )
  await assert.rejects(check('adopted'), { code: '42501', table: 'host_machines' })
  await pool.query('ALTER VIEW adopted SET (security_invoker = on)')
  await check('adopted')
  await explainUsage(pool, id!)
}

/** The quoted name of a new role. */
async function roleOn(server: string, purpose: string): Promise<string> {
  return pg.escapeIdentifier((await createLoginRole(server, purpose)).name)
}

function readers({ pool }: TestDatabase, id: string): Record<string, () => Promise<unknown>> {
  return {
    explainUsage: () => explainUsage(pool, id),
    idleWorkspaces: () => idleWorkspaces(pool, { idleForSeconds: 1 }).next(),
    'workspace_activity in SQL': () => pool.query('SELECT FROM workspace_activity'),
    'a count in SQL': () => pool.query('SELECT count(*) FROM workspace_activity'),
    'a lookup in SQL': () => pool.query('SELECT FROM workspace_activity WHERE workspace_id = $1', [id]),
  }
}

function isHiding(table: string) {
  return (error: Error) => {
    if (!(error instanceof RowSecurityError)) {
      const { code, table: named, constraint } = error as pg.DatabaseError
      assert.deepEqual([code, named, constraint], ['42501', table, 'no_hidden_usage'])
      assert.match((error as Error & { hint: string }).hint, /BYPASSRLS/)
    }
    assert.match(error.message, /row-level security of table "workspaces" may hide rows from role "/)
    return true
  }
}
