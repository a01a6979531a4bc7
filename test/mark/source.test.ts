import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { explainUsage } from '../../src/activity/explain.ts'
import { InvalidSourceError } from '../../src/errors.ts'
import { flush } from '../../src/flush/flush.ts'
import { markUsage } from '../../src/mark/mark.ts'
import { createTestDatabase } from '../support/database.ts'
import { createWorkspaces, pendingCount } from '../support/seed.ts'

const database = await createTestDatabase()
const { pool } = database

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

const odd = ['"ssh"', "it's", 'a\nb\r\n\tc', '🧑‍💻 café', '\\u0000 %s $1 {}', ' ', '🦊'.repeat(63)]

test('a source of any text up to 63 characters is kept unchanged, both pending and flushed', async () => {
  const [id] = await createWorkspaces(pool, 1)
  for (const source of odd) await markUsage(pool, id!, { source })
  const found = async () => (await explainUsage(pool, id!)).sources.map(({ source }) => source).sort()
  assert.deepEqual(await found(), odd.toSorted())

  await pool.query(`UPDATE pending_usage SET period_end = now() - interval '1 s'`)
  assert.equal((await flush(pool)).flushed, odd.length)
  assert.deepEqual(await found(), odd.toSorted())
})

test('a source that is empty or too long is refused by markUsage', async () => {
  const [id] = await createWorkspaces(pool, 1)
  for (const source of ['', 's'.repeat(64), '🦊'.repeat(64), `${'s'.repeat(63)} `, 'a\0b']) {
    await assert.rejects(markUsage(pool, id!, { source }), new InvalidSourceError(source))
  }
  assert.equal(await pendingCount(pool), 0)
})

test('the table refuses a source of more than 63 characters from every other writer, and cuts blanks at its end', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const insert = (source: string) =>
    pool.query('INSERT INTO pending_usage (workspace_id, source) VALUES ($1, $2)', [id, source])
  for (const source of ['s'.repeat(64), '🦊'.repeat(64), `${' '.repeat(63)}s`]) {
    await assert.rejects(insert(source), { code: '22001' })
  }
  assert.equal(await pendingCount(pool), 0)
  await insert(`${'s'.repeat(62)}   `)
  const { rows } = await pool.query('SELECT source FROM pending_usage')
  assert.deepEqual(rows, [{ source: `${'s'.repeat(62)} ` }])
})

test('a source that is left out becomes the application_name, which PostgreSQL cuts to 63 characters, or "unknown"', async () => {
  const [id] = await createWorkspaces(pool, 1)
  for (const application_name of ['gateway', 'x'.repeat(64), '']) {
    const client = await database.connect({ application_name })
    await markUsage(client, id!)
    await client.end()
  }
  const { sources } = await explainUsage(pool, id!)
  assert.deepEqual(sources.map(({ source }) => source).sort(), ['gateway', 'unknown', 'x'.repeat(63)])
})

test('a long application_name that is not ASCII is cut to 63 characters as PostgreSQL shows it', async () => {
  const [id] = await createWorkspaces(pool, 1)
  const client = await database.connect({ application_name: 'ワークスペース' })
  const { rows } = await client.query(`SELECT current_setting('application_name') AS name`)
  assert.ok(rows[0].name.length === 84 || rows[0].name.length === 21, rows[0].name)
  await markUsage(client, id!)
  const { sources } = await explainUsage(pool, id!)
  assert.deepEqual(
    sources.map(({ source }) => source),
    [rows[0].name.slice(0, 63)],
  )
})
