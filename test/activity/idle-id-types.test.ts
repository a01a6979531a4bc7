import assert from 'node:assert/strict'
import { test } from 'node:test'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { migrate } from '../../src/schema/migrate.ts'
import { createEmptyDatabase, type TestDatabase } from '../support/database.ts'

/** Ids that a text may be, in the order of their bytes. */
const TEXTS = [
  '',
  ' a',
  '"b",c',
  ',',
  ',,,',
  '-1',
  '00',
  'A\nB',
  'A\\nB',
  'B',
  '\\',
  '\\\\b',
  '\\n',
  'a',
  'b\n',
  'ä',
]

const KINDS: Record<string, { type: string; ids: string[] }> = {
  bigint: { type: 'bigint', ids: ['-9223372036854775808', '-5', '9', '10', '9223372036854775807'] },
  integer: { type: 'integer', ids: ['-2147483648', '9', '10', '2147483647'] },
  text: { type: 'text', ids: TEXTS },
  varchar: { type: 'varchar(255)', ids: TEXTS },
  'text with the collation C': { type: 'text COLLATE "C"', ids: TEXTS },
  'text with a collation of ICU': { type: 'text COLLATE "und-x-icu"', ids: TEXTS },
}

for (const [kind, { type, ids }] of Object.entries(KINDS)) {
  test(`the pages of idleWorkspaces have no gap and no repeat when ids are ${kind}`, async () => {
    const { pool } = await databaseWithIds(type, ids)
    const list = async (pageSize: number) => {
      const listed: string[] = []
      for await (const { workspaceId } of idleWorkspaces(pool, { idleForSeconds: 1, pageSize })) {
        listed.push(workspaceId)
        assert.ok(listed.length <= ids.length, 'it comes to no end')
      }
      return listed
    }
    for (const pageSize of [1, 3, 100]) assert.deepEqual(await list(pageSize), ids, `never used, ${pageSize}`)
    await pool.query(`UPDATE workspaces SET last_used_at = '2020-01-02'`)
    for (const pageSize of [1, 3, 100]) assert.deepEqual(await list(pageSize), ids, `used, ${pageSize}`)
  })
}

async function databaseWithIds(type: string, ids: string[]): Promise<TestDatabase> {
  const database = await createEmptyDatabase()
  await database.pool.query(`CREATE TABLE workspaces (id ${type} PRIMARY KEY, last_used_at timestamptz)`)
  await migrate({ connectionString: database.connectionString })
  for (const id of ids) await database.pool.query('INSERT INTO workspaces VALUES ($1)', [id])
  return database
}
