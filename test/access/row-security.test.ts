import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import pg from 'pg'
import { assertNoRowSecurity, rowSecurity } from '../../src/access/row-security.ts'
import { RowSecurityError } from '../../src/errors.ts'
import { createTestDatabase } from '../support/database.ts'
import { majorVersion } from '../support/major-version.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { testServer } from '../support/test-server.ts'

const server15 = await testServer15()

for (const major of [18, 15] as const) {
  const on = major === 18 ? await testServer() : server15
  suite(`row security on PostgreSQL ${major}`, { skip: on === null && POSTGRES_15_MISSING }, async () => {
    if (on !== null) await rowSecurityOn(on, major)
  })
}

async function rowSecurityOn(server: string, major: 18 | 15): Promise<void> {
  const [owner, member, heir, stranger] = await Promise.all(
    ['owner', 'member', 'heir', 'stranger'].map(purpose => createLoginRole(server, purpose)),
  )
  const database = await createTestDatabase(major === 15 ? { on: server } : {})
  const { pool } = database
  const version = await majorVersion(pool)
  const name = (role: { name: string } | undefined) => pg.escapeIdentifier(role!.name)
  const roles = [owner!, member!, heir!, stranger!]
  await pool.query(`
    ALTER TABLE workspaces OWNER TO ${name(owner)};
    GRANT ${name(owner)} TO ${name(member)};
    GRANT ${name(owner)} TO ${name(heir)}${version >= 16 ? ' WITH INHERIT FALSE' : ''};
    ${version < 16 ? `ALTER ROLE ${name(heir)} NOINHERIT;` : ''}`)

  test(`rowSecurity says the same as PostgreSQL for each kind of role and table on PostgreSQL ${major}`, async () => {
    const seen = new Set<boolean>()
    for (const table of ['NO FORCE', 'FORCE'] as const) {
      for (const security of ['DISABLE', 'ENABLE'] as const) {
        for (const bypass of ['', 'BYPASSRLS', 'SUPERUSER']) {
          await pool.query(`ALTER TABLE workspaces ${security} ROW LEVEL SECURITY;
            ALTER TABLE workspaces ${table} ROW LEVEL SECURITY`)
          for (const role of roles) {
            if (bypass !== '') await pool.query(`ALTER ROLE ${name(role)} ${bypass}`)
            const db = role.pool(database)
            const { rows } = await db.query(`SELECT row_security_active('workspaces') AS active`)
            const expected = rows[0].active ? [{ table: 'workspaces', role: role.name }] : []
            seen.add(rows[0].active)
            const what = `${role.name} ${bypass}: ${security}, ${table}`
            assert.deepEqual(await rowSecurity(pool, role.name), expected, `asked by a superuser: ${what}`)
            assert.deepEqual(await rowSecurity(db), expected, `asked by the role: ${what}`)
            if (bypass !== '') await pool.query(`ALTER ROLE ${name(role)} NO${bypass}`)
          }
        }
      }
    }
    assert.equal(seen.size, 2)
    await pool.query('ALTER TABLE workspaces DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY')
  })

  test(`assertNoRowSecurity names the table and the role, whatever table of a flush it is, on PostgreSQL ${major}`, async () => {
    await assertNoRowSecurity(pool, stranger!.name)
    const tables = [
      'workspaces',
      'workspace_usage_day',
      'pending_usage',
      'pending_usage_witness',
      'pgboss.job',
    ]
    for (const table of tables) {
      await pool.query(`ALTER TABLE ${table} ENABLE ROW LEVEL SECURITY`)
      await assert.rejects(
        assertNoRowSecurity(pool, stranger!.name),
        (error: RowSecurityError) =>
          error instanceof RowSecurityError &&
          error.table === table.replace('pgboss.', '') &&
          error.role === stranger!.name,
        table,
      )
      await assertNoRowSecurity(pool)
      await pool.query(`ALTER TABLE ${table} DISABLE ROW LEVEL SECURITY`)
    }
  })

  test(`row_security = off refuses a query even if a policy shows all rows on PostgreSQL ${major}, so policies do not matter`, async () => {
    await pool.query(`ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY;
      CREATE POLICY everything ON workspaces USING (true);
      GRANT SELECT (id) ON workspaces TO ${name(stranger)}`)
    const client = await database.connect({ connectionString: stranger!.connectionString(database) })
    await client.query('SET row_security = off')
    await assert.rejects(client.query('SELECT id FROM workspaces'), { code: '42501' })
    await assert.rejects(assertNoRowSecurity(client), RowSecurityError)
  })
}
