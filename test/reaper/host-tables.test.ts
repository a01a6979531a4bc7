import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { grantPrivileges } from '../../src/access/grant.ts'
import { inSchema } from '../../src/database/in-schema.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { reapIdle } from '../../src/reaper/reap-idle.ts'
import { migrate } from '../../src/schema/migrate.ts'
import type { WorkspaceIdType } from '../../src/workspace-id.ts'
import { atEnd } from '../support/at-end.ts'
import { createEmptyDatabase } from '../support/database.ts'
import { createLoginRole } from '../support/roles.ts'
import { testServer } from '../support/test-server.ts'

/* Tables of hosts: any name, any type of id, adopted through a view, in a schema that search_path does not find. */

const HOSTS: { type: string; idType: WorkspaceIdType; ids: [string, string, string, string] }[] = [
  { type: 'uuid', idType: 'uuid', ids: [uuid(1), uuid(2), uuid(3), uuid(4)] },
  { type: 'bigint', idType: 'bigint', ids: ['9007199254740993', '-2', '3', '4'] },
  { type: 'integer', idType: 'integer', ids: ['1', '-2', '3', '4'] },
  { type: 'text', idType: 'text', ids: ['it\'s {a},"b"', '\\x', 'größe', '-rf'] },
  { type: 'varchar(40) COLLATE "en-x-icu"', idType: 'text', ids: ['a b', 'A B', 'b', 'c'] },
]

for (const { type, idType, ids } of HOSTS) {
  test(`a reaper with the least privileges stops idle workspaces of a host's table whose ids are ${type}, each once`, async () => {
    const role = await createLoginRole(await testServer(), 'reaper')
    const database = await createEmptyDatabase()
    const { connectionString, pool } = database
    await pool.query(`CREATE SCHEMA app;
      CREATE TABLE app."Sandboxes" (key ${type} PRIMARY KEY, "lastActivityAt" timestamptz,
        "createdAt" timestamptz NOT NULL, state text NOT NULL DEFAULT 'running', deleted_at timestamptz)`)
    await migrate({
      connectionString,
      schema: 'usage',
      table: 'app."Sandboxes"',
      idColumn: 'key',
      lastUsedColumn: 'lastActivityAt',
      createdColumn: 'createdAt',
      where: 'deleted_at IS NULL',
    })
    const [used, idle, old, young] = ids
    await pool.query(
      `INSERT INTO app."Sandboxes" VALUES ($1, now() - interval '3 d', now() - interval '9 d'),
        ($2, now() - interval '2 d', now() - interval '9 d'), ($3, NULL, now() - interval '1 d'), ($4, NULL, now())`,
      ids,
    )
    const owner = inSchema(pool, 'usage')
    await grantPrivileges(owner, { reapers: [role.name] })
    await pool.query(`GRANT USAGE ON SCHEMA app TO ${pg.escapeIdentifier(role.name)};
      GRANT SELECT (key), UPDATE (state) ON app."Sandboxes" TO ${pg.escapeIdentifier(role.name)}`)
    await markUsage(owner, used, { idType })
    const rolePool = new pg.Pool({ connectionString: role.connectionString(database), max: 1 })
    atEnd(() => rolePool.end())

    const stopped: string[] = []
    const reap = () =>
      reapIdle({
        pool: inSchema(rolePool, 'usage'),
        idleFor: '5h',
        maxPerMinute: 60_000,
        stop: async (client, id, { createdAt }) => {
          assert.ok(createdAt instanceof Date)
          await client.query(`UPDATE app."Sandboxes" SET state = 'stopped' WHERE key = $1`, [id])
          stopped.push(id)
        },
      })
    const result = await reap()
    assert.deepEqual(result.failures, [])
    assert.deepEqual([result.stopped, result.ended, result.refused], [2, 'all', []])
    assert.deepEqual(stopped, [idle, old])
    const { rows } = await pool.query(
      `SELECT key::text AS id FROM app."Sandboxes" WHERE state = 'stopped' ORDER BY "createdAt"`,
    )
    assert.deepEqual(
      rows.map(({ id }) => id),
      [idle, old],
    )
    assert.equal((await reap()).idle, 0)
    assert.ok(young)
    await pool.query('UPDATE app."Sandboxes" SET deleted_at = now() WHERE key = $1', [idle])
    await reap()
    const noted = await pool.query('SELECT workspace_id::text AS id FROM usage.stopped_workspaces')
    assert.deepEqual(noted.rows, [{ id: old }])
    await flush(owner)
  })
}

function uuid(n: number): string {
  return `00000000-0000-4000-8000-00000000000${n}`
}
