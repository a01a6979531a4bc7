import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { beforeEach, suite, test } from 'node:test'
import { markUsage } from '../../src/mark/mark.ts'
import { commandLineUrl, runCommand, startCommand, stopCommand } from '../support/command-line.ts'
import { createEmptyDatabase, createTestDatabase } from '../support/database.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'

const { pool, connectionString } = await createTestDatabase()
const DATABASE_URL = await commandLineUrl(connectionString)
const env = { DATABASE_URL }

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
  // No period ends but in the test that says so.
  await setPeriodLength(pool, 100 * 365 * 86_400)
})

suite('--help', () => {
  test('is there for every command, and names a variable for every option', async () => {
    const main = await runCommand(['--help'])
    assert.equal(main.code, 0)
    assert.match(main.stdout, /Exit codes: 0 success, 1 failure, 2 wrong usage\./)
    const commands = [...main.stdout.matchAll(/^ {2}([a-z]+) \[options\]/gm)].map(([, name]) => name!)
    for (const command of ['migrate', 'worker', 'mark', 'flush', 'status']) {
      assert.ok(commands.includes(command), command)
    }
    for (const { code, stdout, stderr } of await Promise.all(
      commands.map(name => runCommand([name, '--help'])),
    )) {
      assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
      const options = stdout.match(/^ {2}(-\w, )?--/gm) ?? []
      const variables = stdout.match(/env:\s+(DATABASE_URL|WORKSPACE_USAGE_)/g) ?? []
      // All but --help itself.
      assert.equal(variables.length, options.length - 1, stdout)
    }
  })
})

suite('migrate', () => {
  test('goes up at once and down one by one, and says what it did', async () => {
    const database = await createEmptyDatabase()
    const env = { DATABASE_URL: await commandLineUrl(database.connectionString) }
    const names = readdirSync(path.join(import.meta.dirname, '../../migrations'))
      .map(file => path.basename(file, '.ts'))
      .sort()

    const up = await runCommand(['migrate'], { env })
    assert.equal(up.stderr, '')
    assert.match(
      up.stdout,
      /^(migrated \S+\n)+queue workspace-usage-flush, schedule "\* \* \* \* \*", pg-boss schema \d+\n$/,
    )
    assert.deepEqual(
      [...up.stdout.matchAll(/^migrated (\S+)$/gm)].map(([, name]) => name),
      names,
    )
    assert.equal(up.code, 0)

    const down = await runCommand(['migrate', '--down'], { env })
    assert.deepEqual(down, { code: 0, stdout: `took back ${names.pop()}\n`, stderr: '' })

    const json = await runCommand(['migrate', '--down', '--json'], { env })
    assert.deepEqual(JSON.parse(json.stdout), { reverted: names.pop() })

    for (const name of names.toReversed()) {
      const { stdout } = await runCommand(['migrate'], { env: { ...env, WORKSPACE_USAGE_DOWN: 'yes' } })
      assert.equal(stdout, `took back ${name}\n`)
    }
    const bottom = await runCommand(['migrate', '--down'], { env })
    assert.deepEqual(bottom, { code: 0, stdout: 'nothing to take back\n', stderr: '' })
  })

  test('prints JSON: the migrations that ran, and the queue', async () => {
    const { code, stdout } = await runCommand(['migrate', '--json'], { env })
    const { applied, queue } = JSON.parse(stdout)
    assert.deepEqual(applied, [])
    assert.deepEqual(Object.keys(queue), ['queue', 'schemaVersion', 'cron'])
    assert.equal(code, 0)
  })
})

suite('mark', () => {
  const [one, two] = [randomUUID(), randomUUID()]

  test('marks the ids among its arguments, as the source that is named', async () => {
    const result = await runCommand(['mark', one, two, one.toUpperCase(), '--source', 'ssh'], { env })
    assert.deepEqual(result, {
      code: 0,
      stdout: 'marked 2 workspaces, 2 for the first time in this period\n',
      stderr: '',
    })
    assert.deepEqual(await pendingSources(), ['ssh'])
    assert.equal(await pendingCount(pool), 2)
  })

  test('is the source workspace-usage unless one is named, in a variable perhaps', async () => {
    await runCommand(['mark', one, '--database-url', DATABASE_URL], { env: { DATABASE_URL: 'overridden' } })
    assert.deepEqual(await pendingSources(), ['workspace-usage'])
    const { stdout } = await runCommand(['mark', one], {
      env: { ...env, WORKSPACE_USAGE_SOURCE: 'cron', WORKSPACE_USAGE_JSON: '1' },
    })
    assert.deepEqual(JSON.parse(stdout), { marked: 1, stored: 1, invalid: 0 })
    assert.deepEqual(await pendingSources(), ['cron', 'workspace-usage'])
  })

  test('reads ids from standard input in batches, and a bad line costs itself only', async () => {
    const ids = Array.from({ length: 10_001 }, () => randomUUID())
    const input = ['', ...ids, '  ', 'not-an-id', ` ${one}\r`, `${two}0`].join('\n')

    const { code, stdout, stderr } = await runCommand(['mark', '--json'], { env, input })

    assert.deepEqual(JSON.parse(stdout), { marked: 10_002, stored: 10_002, invalid: 2 })
    assert.match(
      stderr,
      /^line 10004: not a UUID: "not-an-id"\. .*\nline 10006: not a UUID: "[0-9a-f-]+"\. .*\n$/,
    )
    assert.equal(code, 2)
    const { rows } = await pool.query('SELECT FROM pending_usage GROUP BY xmin::text')
    assert.equal(rows.length, 2, 'transactions')
  })
})

suite('flush', () => {
  test('drains closed periods batch by batch', async () => {
    const ids = await createWorkspaces(pool, 5)
    const periodEnd = await storeClosedMarks(pool, [...ids, randomUUID()])
    const { code, stdout } = await runCommand(['flush', '--batch-size', '4'], { env })
    assert.equal(
      stdout.replace(/\d+ ms/, '… ms'),
      'marks flushed: 6 (batches: 2, … ms), workspaces updated: 5, ' +
        'marks of unknown workspaces: 1, marks held: 0\n',
    )
    assert.equal(code, 0)
    assert.deepEqual(await lastUsedAt(pool, ids), Array(5).fill(periodEnd))
    assert.equal(await pendingCount(pool), 0)
  })

  test('waits for the open period to close, if it is told to', async () => {
    const ids = await createWorkspaces(pool, 1)
    await setPeriodLength(pool, 2)
    await until('a period has just begun', async () => {
      const { rows } = await pool.query(
        `SELECT usage_period_end() - statement_timestamp() > interval '1.9 s' AS begun`,
      )
      return rows[0].begun
    })
    await markUsage(pool, ids)

    const { code, stdout } = await runCommand(['flush', '--wait', '--json'], { env })

    const { durationMs, ...counts } = JSON.parse(stdout)
    assert.deepEqual(counts, { flushes: 1, flushed: 1, workspaces: 1, updated: 1, unknown: 0, held: 0 })
    assert.equal(typeof durationMs, 'number')
    assert.equal(code, 0)
  })

  test('takes its options from variables, and an empty one or a "false" for not set', async () => {
    const ids = await createWorkspaces(pool, 3)
    await storeClosedMarks(pool, ids)
    const { code, stdout } = await runCommand(['flush'], {
      env: {
        ...env,
        WORKSPACE_USAGE_BATCH_SIZE: '2',
        WORKSPACE_USAGE_SOURCES: 'no',
        WORKSPACE_USAGE_WAIT: 'false',
        WORKSPACE_USAGE_JSON: '',
      },
    })
    assert.match(stdout, /^marks flushed: 3 \(batches: 2,/)
    assert.equal(code, 0)
    assert.equal((await pool.query('SELECT FROM workspace_usage')).rowCount, 0)
  })
})

suite('status', () => {
  test('shows no lag while only the open period has marks', async () => {
    await markUsage(pool, [randomUUID(), randomUUID()])
    const { code, stdout } = await runCommand(['status'], { env })
    assert.match(stdout, /^pending {5}2 marks open, 0 closed\nlag {9}0\.0 s\nlast flush {2}\S.*\n$/)
    assert.equal(code, 0)
  })

  test('prints JSON, with the lag growing while a closed period is left', async () => {
    await storeClosedMarks(pool, [randomUUID()], { agoMs: 60_000 })
    await storeClosedMarks(pool, [randomUUID()], { agoMs: 5_000 })
    const before = JSON.parse((await runCommand(['status', '--json'], { env })).stdout)
    assert.deepEqual(Object.keys(before), ['pending', 'lagSeconds', 'lastFlush'])
    assert.deepEqual(before.pending, { open: 0, closed: 2 })
    assert.ok(before.lagSeconds >= 60 && before.lagSeconds < 600, String(before.lagSeconds))
    const after = JSON.parse((await runCommand(['status', '--json'], { env })).stdout)
    assert.ok(after.lagSeconds > before.lagSeconds)
  })

  test('fails above the lag that is allowed', async () => {
    await storeClosedMarks(pool, [randomUUID()], { agoMs: 3_600_000 })
    const { code, stdout, stderr } = await runCommand(['status', '--max-lag', '60.5'], { env })
    assert.match(stdout, /^pending {5}0 marks open, 1 closed\n/)
    assert.match(
      stderr,
      /^error: the lag is 36\d\d\.\d s, above 60\.5 s\. Does a worker run\? Its log tells\.\n$/,
    )
    assert.equal(code, 1)
    assert.equal((await runCommand(['status', '--max-lag', '7200'], { env })).code, 0)
  })
})

suite('worker', () => {
  test('flushes, logs JSON lines, and ends with 0 on SIGTERM; status shows its last flush', async () => {
    const ids = await createWorkspaces(pool, 2)
    await storeClosedMarks(pool, ids)
    const worker = startCommand(['worker'], {
      env: { ...env, WORKSPACE_USAGE_FLUSH_INTERVAL: '1', WORKSPACE_USAGE_LOG_LEVEL: 'debug' },
    })
    await worker.line(/nothing to flush/, { timeoutMs: 30_000 })
    const { code, stdout, stderr } = await stopCommand(worker)
    assert.deepEqual({ code, stderr }, { code: 0, stderr: '' })
    const log = stdout
      .trim()
      .split('\n')
      .map(line => JSON.parse(line))
    assert.equal(log[0].flushIntervalSeconds, 1)
    assert.equal(log.find(({ msg }) => msg === 'updated workspaces last_used_at').updated, 2)
    assert.equal(log.at(-1).msg, 'worker stopped')

    const status = JSON.parse((await runCommand(['status', '--json'], { env })).stdout)
    const { completedAt, ...counts } = status.lastFlush
    assert.ok(Date.parse(completedAt))
    assert.deepEqual(counts, { flushed: 0, workspaces: 0, updated: 0, unknown: 0, held: 0, full: false })
  })
})

async function pendingSources(): Promise<string[]> {
  const { rows } = await pool.query('SELECT DISTINCT source FROM pending_usage ORDER BY source')
  return rows.map(({ source }) => source)
}
