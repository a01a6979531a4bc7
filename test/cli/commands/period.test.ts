import assert from 'node:assert/strict'
import { test } from 'node:test'
import { usagePeriod } from '../../../src/schema/period.ts'
import { commandLineUrl, runCommand } from '../../support/command-line.ts'
import { createTestDatabase } from '../../support/database.ts'

const { pool, connectionString } = await createTestDatabase()
const env = { DATABASE_URL: await commandLineUrl(connectionString) }

test('period shows the length of a period, and sets it', async () => {
  const before = await runCommand(['period'], { env })
  assert.deepEqual(before, {
    code: 0,
    stdout: 'a period lasts 30 seconds\na workspace can be in use until 1d ahead\n',
    stderr: '',
  })
  assert.deepEqual(await runCommand(['period', '1'], { env }), {
    code: 0,
    stdout:
      'a period lasts 1 second now, and lasted 30 seconds before\n' +
      'Marks that are stored keep the end of their period. Trackers notice when that has passed.\n',
    stderr: '',
  })
  assert.equal(await usagePeriod(pool), 1)
  assert.equal((await runCommand(['period', '1'], { env })).stdout, 'a period already lasts 1 second\n')

  assert.deepEqual(JSON.parse((await runCommand(['period', '--json'], { env })).stdout), {
    periodSeconds: 1,
    untilLimitSeconds: 86_400,
  })
  const set = await runCommand(['period', '0.5', '--json'], { env })
  assert.deepEqual(JSON.parse(set.stdout), { periodSeconds: 0.5, untilLimitSeconds: 86_400 })
  assert.equal(await usagePeriod(pool), 0.5)
})

test('period refuses a length that is not allowed, says what is allowed, and does not connect', async () => {
  for (const value of ['0', '3601', '0.0001', 'long']) {
    const { code, stdout, stderr } = await runCommand(['period', value], {
      env: { DATABASE_URL: 'postgres://127.0.0.1:1/nowhere' },
    })
    assert.deepEqual([code, stdout], [2, ''])
    assert.equal(
      stderr,
      `error: command-argument value '${value}' is invalid for argument 'seconds'. ` +
        'Allowed: 0.1 to 3600 seconds, with at most 3 decimals.\n(--help tells what is allowed)\n',
    )
  }
})

test('period --help says what a change means', async () => {
  const { stdout } = await runCommand(['period', '--help'])
  for (const sentence of [
    'With a longer period there are fewer marks to store',
    'Marks that are stored keep the end of their period.',
    'a tracker notices when the period that it knows has ended',
  ]) {
    assert.ok(stdout.replaceAll('\n', ' ').includes(sentence), stdout)
  }
})
