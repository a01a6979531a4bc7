import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import pg from 'pg'
import { privilegeStatements } from '../../src/access/duties.ts'
import { grantPrivileges } from '../../src/access/grant.ts'
import { diagnose } from '../../src/doctor/diagnose.ts'
import type { Diagnosis } from '../../src/doctor/finding.ts'
import { InvalidOptionError, UnknownOptionError, UnknownRoleError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { createTestDatabase } from '../support/database.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { testServer } from '../support/test-server.ts'

const server15 = await testServer15()

for (const major of [18, 15] as const) {
  const on = major === 18 ? await testServer() : server15
  suite(`the doctor and roles on PostgreSQL ${major}`, {
    skip: on === null && POSTGRES_15_MISSING,
  }, async () => {
    if (on !== null) await rolesOn(on, major)
  })
}

async function rolesOn(server: string, major: 18 | 15): Promise<void> {
  const [marker, worker, reader, reaper, holder, stranger] = await Promise.all(
    ['marker', 'worker', 'reader', 'reaper', 'holder', 'stranger'].map(purpose =>
      createLoginRole(server, purpose),
    ),
  )
  const database = await createTestDatabase(major === 15 ? { on: server } : {})
  const { pool } = database
  // As if a worker was there.
  await flush(pool)
  // A careful host does the first. A pg-boss of another version may have sequences.
  await pool.query(`REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public, pgboss FROM PUBLIC;
    CREATE SEQUENCE pgboss.later`)
  await grantPrivileges(pool, {
    markers: [marker!.name],
    workers: [worker!.name],
    readers: [reader!.name],
    reapers: [reaper!.name],
    holders: [holder!.name],
  })
  const id = (role: { name: string } | undefined) => pg.escapeIdentifier(role!.name)

  test(`the doctor names the one duty of a role that was granted it, on PostgreSQL ${major}`, async () => {
    for (const [role, duty] of [
      [marker!, 'marker'],
      [worker!, 'worker'],
      [reader!, 'reader'],
      [reaper!, 'reader, reaper'],
      [holder!, 'holder'],
    ] as const) {
      const diagnosis = await diagnose(pool, { as: role.name })
      assert.deepEqual(described(diagnosis), [], duty)
      assert.equal(diagnosis.role, role.name)
      assert.equal(seen(diagnosis, 'duties'), duty)
    }
    assert.equal(seen(await diagnose(pool), 'duties'), 'marker, worker, reader, reaper, holder')
  })

  test(`each statement of a grant that is taken back is a privilege that the doctor misses, on PostgreSQL ${major}`, async () => {
    for (const [role, duties] of [
      [marker!, { markers: [marker!.name] }],
      [worker!, { workers: [worker!.name] }],
      [reader!, { readers: [reader!.name] }],
      [reaper!, { reapers: [reaper!.name] }],
      [holder!, { holders: [holder!.name] }],
    ] as const) {
      const statements = await privilegeStatements(pool, 'revoke', duties)
      assert.ok(statements.length >= 2)
      for (const statement of statements) {
        await pool.query(statement)
        const diagnosis = await diagnose(pool, { as: role.name })
        if (statement.includes('stopped_workspaces')) {
          // Only this table tells a reaper. Without it, the role is a reader who may do more.
          assert.ok(diagnosis.findings.some(({ code }) => code === 'privilege-excess'))
          await grantPrivileges(pool, duties)
          continue
        }
        assert.equal(diagnosis.ok, false, statement)
        for (const { code, severity, message, remedy } of diagnosis.findings) {
          if (code === 'not-durable') continue
          // A duty of one table is not begun without it.
          assert.match(`${severity} ${code}`, /^warning (privilege-missing|no-duty)$/, statement)
          if (code === 'no-duty') continue
          assert.match(
            message,
            new RegExp(`lacks for the duty of a ${Object.keys(duties)[0]!.slice(0, -1)}: `),
          )
          assert.match(remedy, /^Run: workspace-usage grant --\w+ '/)
        }
        await grantPrivileges(pool, duties)
      }
      assert.equal((await diagnose(pool, { as: role.name })).ok, true)
    }
  })

  test(`the doctor warns of a role without a duty that it is asked for, and only notes that of its own connection, on PostgreSQL ${major}`, async () => {
    const asked = await diagnose(pool, { as: stranger!.name })
    assert.deepEqual(described(asked), [`warning no-duty role ${JSON.stringify(stranger!.name)}`])
    const own = await diagnose(stranger!.pool(database))
    assert.deepEqual(described(own), [`note no-duty role ${JSON.stringify(stranger!.name)}`])
    const unknown = own.checks.filter(({ notChecked }) => notChecked !== null).map(({ name }) => name)
    assert.deepEqual(unknown, ['verdict', 'pg-boss'])
    assert.equal(own.ok, true)
  })

  test(`the doctor notes what a marker and a reader may do beyond their duty, on PostgreSQL ${major}`, async () => {
    await pool.query(`GRANT SELECT ON pending_usage TO ${id(marker)};
      GRANT INSERT (period_end) ON pending_usage TO ${id(marker)}; GRANT TRUNCATE ON workspace_usage TO ${id(reader)}`)
    const of = async (role: { name: string }) => (await diagnose(pool, { as: role.name })).findings
    const excess = (await of(marker!)).filter(({ code }) => code === 'privilege-excess')
    assert.deepEqual(
      excess.map(({ severity, object }) => `${severity} ${object}`),
      ['note table pending_usage'],
    )
    assert.match(excess[0]!.message, /may do more than its duty needs: INSERT, SELECT\.$/)
    assert.deepEqual(described(await diagnose(pool, { as: reader!.name })), [
      'note privilege-excess table workspace_usage',
    ])
    await pool.query(`REVOKE SELECT ON pending_usage FROM ${id(marker)};
      REVOKE INSERT (period_end) ON pending_usage FROM ${id(marker)};
      REVOKE TRUNCATE ON workspace_usage FROM ${id(reader)}`)
  })

  test(`the doctor finds row security that hides rows from the role or from the views, on PostgreSQL ${major}`, async () => {
    await pool.query('ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY')
    assert.deepEqual(described(await diagnose(pool)), [])
    assert.deepEqual(described(await diagnose(pool, { as: worker!.name })), [
      'critical row-security table workspaces',
    ])
    assert.deepEqual(described(await diagnose(pool, { as: marker!.name })), [])
    await pool.query(`ALTER VIEW workspace_activity OWNER TO ${id(stranger)}`)
    assert.deepEqual(described(await diagnose(pool, { as: marker!.name })), [
      'critical row-security table workspaces',
    ])
    await pool.query(`ALTER VIEW workspace_activity OWNER TO current_user;
      ALTER TABLE workspaces DISABLE ROW LEVEL SECURITY; ALTER TABLE pending_usage ENABLE ROW LEVEL SECURITY`)
    assert.deepEqual(described(await diagnose(pool, { as: marker!.name })), [
      'critical row-security table pending_usage',
    ])
    await pool.query('ALTER TABLE pending_usage DISABLE ROW LEVEL SECURITY')
    await grantPrivileges(pool, { readers: [reader!.name] })
  })

  test(`the doctor finds a role whose own search_path leads elsewhere, on PostgreSQL ${major}`, async () => {
    await pool.query(`ALTER ROLE ${id(worker)} SET search_path = "Some where"`)
    assert.deepEqual(described(await diagnose(pool, { as: worker!.name })), [
      `warning search-path-differs role ${JSON.stringify(worker!.name)}`,
    ])
    await pool.query(`ALTER ROLE ${id(worker)} SET search_path = "Some where", public`)
    assert.deepEqual(described(await diagnose(pool, { as: worker!.name })), [])
    await pool.query(`ALTER ROLE ${id(worker)} RESET search_path`)
  })

  test(`a role that does not exist is an error of the doctor that quotes it, on PostgreSQL ${major}`, async () => {
    await assert.rejects(diagnose(pool, { as: 'no "one"' }), new UnknownRoleError(['no "one"']))
    await assert.rejects(diagnose(pool, { as: '' }), InvalidOptionError)
    await assert.rejects(diagnose(pool, { ass: 'x' } as never), UnknownOptionError)
  })
}

function seen({ checks }: Diagnosis, name: string): string | null | undefined {
  return checks.find(check => check.name === name)?.seen
}

function described({ findings }: Diagnosis): string[] {
  return findings
    .filter(({ code }) => code !== 'not-durable')
    .map(({ severity, code, object }) => [severity, code, object].filter(part => part !== null).join(' '))
}
