import assert from 'node:assert/strict'
import { test } from 'node:test'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { hostDatabase, ID_HOSTS } from '../support/id-hosts.ts'

for (const host of ID_HOSTS) {
  test(`idle workspaces with ids of type ${host.name} are listed in pages, each once`, async () => {
    const { pool } = await hostDatabase(host)
    await pool.query(`
      UPDATE workspaces SET last_used_at = timestamptz '2020-01-01Z' + n % 2 * interval '1 day'
      FROM (SELECT id AS used, row_number() OVER () AS n FROM workspaces) numbered WHERE id = used AND n % 3 > 0`)
    const listed: string[] = []
    for await (const { workspaceId } of idleWorkspaces(pool, { idleForSeconds: 60, pageSize: 2 })) {
      listed.push(workspaceId)
    }
    assert.deepEqual(listed.sort(), [...host.ids].sort())
  })
}
