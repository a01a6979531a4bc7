import assert from 'node:assert/strict'
import { test } from 'node:test'
import { commandLineUrl, runCommand } from '../support/command-line.ts'
import { hostDatabase, ID_HOSTS } from '../support/id-hosts.ts'

/** Lines can't hold these, and an argument can. */
const isLine = (id: string) => !/[\r\n]/.test(id) && id.trim() !== ''

for (const host of ID_HOSTS.filter(({ name }) => ['bigint', 'integer', 'text'].includes(name))) {
  test(`the command line takes ids of type ${host.name} without an option`, async () => {
    const { pool, connectionString } = await hostDatabase(host)
    const env = { DATABASE_URL: await commandLineUrl(connectionString) }
    const lines = host.ids.filter(isLine)
    const wrong = host.idType === 'text' ? 'x'.repeat(256) : '1.5'
    const input = [...lines, '', wrong].join('\n')
    const read = await runCommand(['mark', '--json'], { env, input })
    assert.deepEqual(JSON.parse(read.stdout), { marked: lines.length, stored: lines.length, invalid: 1 })
    assert.match(read.stderr, new RegExp(`^line ${lines.length + 2}: not an? (bigint|integer|text id): `))

    const passed = await runCommand(['mark', '--', ...host.ids], { env })
    assert.equal(passed.code, 0, passed.stderr)
    const { rows } = await pool.query('SELECT DISTINCT workspace_id::text AS id FROM pending_usage')
    assert.deepEqual(rows.map(({ id }) => id as string).sort(), [...host.ids].sort())

    for (const id of host.ids) {
      const { code, stdout } = await runCommand(['explain', '--json', '--', id], { env })
      assert.equal(code, 0)
      assert.equal(JSON.parse(stdout).workspaceId, id)
    }
    const none = await runCommand(['explain', '--', wrong], { env })
    assert.equal(none.code, 2)
    assert.match(none.stderr, /^error: not an? (bigint|integer|text id): /)
  })
}
