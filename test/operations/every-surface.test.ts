import assert from 'node:assert/strict'
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import pg from 'pg'
import { stringify } from 'yaml'
import { grantPrivileges } from '../../src/access/grant.ts'
import { openHttpPort } from '../../src/http/http-port.ts'
import { UsageTracker } from '../../src/mark/tracker.ts'
import type { FailureEvent, FlushEvent } from '../../src/worker/events.ts'
import { FAILED_FLUSH_QUEUE, FLUSH_QUEUE } from '../../src/worker/queue.ts'
import { startFlushWorker } from '../../src/worker/worker.ts'
import { PROMETHEUS_FOLDER } from '../deploy/alerts.ts'
import { missing, runInstalled } from '../deploy/installed-program.ts'
import { commandLineUrl, runCommand } from '../support/command-line.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { flushJobs, startWaitingJobs } from '../support/jobs.ts'
import { collectLog } from '../support/log-lines.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { createLoginRole } from '../support/roles.ts'
import { createWorkspaces, lastUsedAt, pendingCount, storeClosedMarks } from '../support/seed.ts'
import { testServer } from '../support/test-server.ts'
import { readMetrics } from '../support/worker-port.ts'

/*
 * An operator must see trouble wherever they look. Each test makes one trouble, looks everywhere, ends it, and sees that
 * all of it recovers by itself.
 */

const server = await testServer()

/** What every place tells of the health. */
interface Told {
  status: { code: number | null; reasons: string }
  doctor: { code: number | null; codes: string[] }
  ready: { status: number; codes: string[] }
  problems: string[]
  healthy: number | undefined
}

async function lookEverywhere(database: TestDatabase, url: string): Promise<Told> {
  const env = { DATABASE_URL: await commandLineUrl(database.connectionString) }
  const status = await runCommand(['status', '--check'], { env })
  const doctor = await runCommand(['doctor', '--json'], { env })
  const ready = await fetch(new URL('/readyz', url))
  const verdict = (await ready.json()) as { problems: { code: string }[] }
  const families = await readMetrics(url)
  const values = (name: string) => families.find(family => family.name === name)?.metrics ?? []
  const found = JSON.parse(doctor.stdout) as { checks: { findings: { code: string; severity: string }[] }[] }
  return {
    status: { code: status.code, reasons: status.stderr },
    doctor: {
      code: doctor.code,
      codes: found.checks
        .flatMap(({ findings }) => findings)
        .filter(({ severity }) => severity !== 'note')
        .map(({ code }) => code),
    },
    ready: { status: ready.status, codes: verdict.problems.map(({ code }) => code) },
    problems: values('workspace_usage_problems')
      .filter(({ value }) => Number(value) > 0)
      .map(({ labels }) => labels!.code!),
    healthy: Number(values('workspace_usage_healthy')[0]?.value),
  }
}

const ALL_WELL: Told = {
  status: { code: 0, reasons: '' },
  doctor: { code: 0, codes: [] },
  ready: { status: 200, codes: [] },
  problems: [],
  healthy: 1,
}

async function untilAllWell(database: TestDatabase, url: string): Promise<void> {
  let told: Told | undefined
  await until(
    'all is well again, everywhere',
    async () => {
      told = await lookEverywhere(database, url)
      return JSON.stringify(told) === JSON.stringify(ALL_WELL) || null
    },
    { timeoutMs: 20_000 },
  ).catch(error => {
    assert.deepEqual(told, ALL_WELL)
    throw error
  })
}

/** Fails if an alert does not fire for what `/metrics` tells now, as if it told so for ten minutes. */
async function assertFires(url: string, alertname: string): Promise<void> {
  const text = await (await fetch(new URL('/metrics', url))).text()
  const series = text
    .split('\n')
    .filter(line => /^workspace_usage_\w+(\{|\s)/.test(line) && !/ NaN$/.test(line))
    .map(line =>
      line
        .slice(0, line.lastIndexOf(' '))
        .concat('\n', line.slice(line.lastIndexOf(' ') + 1))
        .split('\n'),
    )
    .map(([name, value]) => ({ series: name!, values: `${value}x20` }))
  const folder = mkdtempSync(path.join(tmpdir(), 'workspace-usage-alert-'))
  try {
    cpSync(path.join(PROMETHEUS_FOLDER, 'alerts.yml'), path.join(folder, 'alerts.yml'))
    const input = {
      rule_files: ['alerts.yml'],
      evaluation_interval: '30s',
      tests: [
        {
          interval: '30s',
          input_series: series,
          alert_rule_test: [{ eval_time: '10m', alertname, exp_alerts: [] }],
        },
      ],
    }
    writeFileSync(path.join(folder, 'real.test.yml'), stringify(input))
    const { code, output } = await runInstalled('promtool', ['test', 'rules', 'real.test.yml'], folder)
    // No alert is expected, so promtool prints the one that fired.
    assert.notEqual(code, 0, `${alertname} does not fire for:\n${text}`)
    assert.match(output, new RegExp(`alertname: ${alertname}`))
    assert.match(output, /got:\s*\[\s*0:/)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

test('failing flushes are told everywhere, and after their end all recovers and no mark is lost', async t => {
  const role = await createLoginRole(server, 'worker')
  await using database = await createTestDatabase()
  const { pool } = database
  await grantPrivileges(pool, { workers: [role.name] })
  await setPeriodLength(pool, 1)
  const log = collectLog()
  const failures: FailureEvent[] = []
  const flushes: FlushEvent[] = []
  await using port = await openHttpPort({
    ...{ port: 0, host: '127.0.0.1', database: role.connectionString(database), logger: log.logger },
    ...{ health: {}, dashboard: null },
  })
  await using worker = await startFlushWorker({
    ...{ database: role.connectionString(database), logger: log.logger, flushIntervalSeconds: 1 },
    onFailure: event => failures.push(event),
    onFlush: event => flushes.push(event),
  })
  port.answersFor(worker)
  await until('a flush', () => flushes.length > 0)
  await untilAllWell(database, port.url)

  await pool.query(`REVOKE UPDATE ON workspaces FROM ${pg.escapeIdentifier(role.name)}`)
  const ids = await createWorkspaces(pool, 50)
  const tracker = new UsageTracker(pool, { source: 'ssh', logger: log.logger })
  for (const id of ids) tracker.mark(id)
  await tracker.close()
  await until(
    'a job is in the dead-letter queue',
    async () => {
      await startWaitingJobs(pool)
      const { rows } = await pool.query('SELECT FROM pgboss.job WHERE name = $1', [FAILED_FLUSH_QUEUE])
      return rows.length > 0
    },
    { timeoutMs: 60_000 },
  )

  assert.equal(log.find('flush failed; its marks stay pending and it is tried again')[0]?.level, 'warn')
  assert.equal(log.find('flush keeps failing; marks stay pending')[0]?.level, 'error')
  const failed = (await flushJobs(pool)).filter(({ state }) => state === 'failed')
  assert.ok(failed.length > 0)
  assert.match(JSON.stringify(failed[0]!.output), /lacks a privilege|permission denied/)
  assert.ok(failures.length >= 3 && failures.every(({ kind }) => kind === 'flush'))
  const told = await lookEverywhere(database, port.url)
  assert.equal(told.status.code, 1)
  assert.match(told.status.reasons, /flushes-fail[\s\S]*permission denied/)
  assert.equal(told.doctor.code, 1)
  assert.ok(told.doctor.codes.includes('flushes-fail'), told.doctor.codes.join())
  assert.equal(told.ready.status, 503)
  for (const codes of [told.ready.codes, told.problems])
    assert.deepEqual(codes.toSorted(), ['failed-jobs', 'flushes-fail'])
  assert.equal(told.healthy, 0)
  const alive = await fetch(new URL('/healthz', port.url))
  assert.equal(alive.status, 200, 'this process does what it can, so nobody restarts it')
  if (missing('promtool')) t.diagnostic(`${missing('promtool')}: the alerts are not asked`)
  else
    for (const alert of ['WorkspaceUsageFlushesFail', 'WorkspaceUsageFailedJobs'])
      await assertFires(port.url, alert)

  await grantPrivileges(pool, { workers: [role.name] })
  await until(
    'nothing is pending',
    async () => {
      await startWaitingJobs(pool)
      return (await pendingCount(pool)) === 0
    },
    { timeoutMs: 30_000 },
  )
  await untilAllWell(database, port.url)
  assert.equal(
    flushes.reduce((sum, { result }) => sum + result.updated, 0),
    50,
  )
  assert.ok(
    (await lastUsedAt(pool, ids)).every(time => time !== null),
    'no mark is lost',
  )
  assert.ok(log.find('flush works again').length > 0)
  assert.ok(flushes.some(({ recovered }) => recovered !== null))
})

test('a quiet system in which all workers have stopped is told everywhere, until a worker runs again', async () => {
  await using database = await createTestDatabase()
  const { pool, connectionString } = database
  const log = collectLog()
  await using port = await openHttpPort({
    ...{ port: 0, host: '127.0.0.1', database: connectionString, logger: log.logger },
    ...{ health: {}, dashboard: null },
  })
  const start = () =>
    startFlushWorker({ database: connectionString, logger: log.logger, flushIntervalSeconds: 1 })
  await using first = await start()
  await using second = await start()
  port.answersFor(first)
  await until('a flush', async () => (await flushJobs(pool)).some(({ state }) => state === 'completed'))
  await untilAllWell(database, port.url)
  await first.stop()
  await second.stop()
  // Time passes, and nobody marks. It passes for pg-boss's jobs and for the last flush.
  await pool.query(`UPDATE pending_usage_witness SET flushed_at = flushed_at - interval '181 s'`)
  await pool.query(
    `UPDATE pgboss.job SET created_on = created_on - interval '181 s', started_on = started_on - interval '181 s',
      completed_on = completed_on - interval '181 s'`,
  )
  await pool.query(`UPDATE pgboss.queue SET created_on = created_on - interval '181 s' WHERE name = $1`, [
    FLUSH_QUEUE,
  ])
  assert.equal(await pendingCount(pool), 0)
  const told = await lookEverywhere(database, port.url)
  assert.equal(told.status.code, 1)
  assert.match(told.status.reasons, /no-worker/)
  assert.ok(told.doctor.codes.includes('no-worker'))
  assert.deepEqual([told.ready.status, told.ready.codes], [503, ['no-worker']])
  assert.equal((await fetch(new URL('/healthz', port.url))).status, 503)

  await using third = await start()
  port.answersFor(third)
  await untilAllWell(database, port.url)
})

test('a source that falls silent is told everywhere, until it marks again or is retired', async t => {
  await using database = await createTestDatabase()
  const { pool, connectionString } = database
  const log = collectLog()
  await using port = await openHttpPort({
    ...{ port: 0, host: '127.0.0.1', database: connectionString, logger: log.logger },
    ...{ health: {}, dashboard: null },
  })
  await using worker = await startFlushWorker({
    ...{ database: connectionString, logger: log.logger, flushIntervalSeconds: 1 },
  })
  port.answersFor(worker)
  const [id] = await createWorkspaces(pool, 1)
  const mark = async (source: string) => {
    await storeClosedMarks(pool, [id!], { source })
    await until('it is flushed', async () => (await pendingCount(pool)) === 0)
  }
  for (const source of ['ssh', 'vscode']) await mark(source)
  await untilAllWell(database, port.url)
  const fallSilent = () =>
    pool.query(
      `UPDATE source_usage SET regular_since = statement_timestamp() - interval '26 h',
        last_used_at = statement_timestamp() - interval '61 min' WHERE source = 'ssh'`,
    )

  await fallSilent()
  const told = await lookEverywhere(database, port.url)
  assert.equal(told.status.code, 1)
  assert.match(told.status.reasons, /silent-source[\s\S]*"ssh"/)
  assert.ok(told.doctor.codes.includes('silent-source'))
  assert.deepEqual([told.ready.status, told.ready.codes], [200, ['silent-source']])
  assert.equal((await fetch(new URL('/readyz?severity=warning', port.url))).status, 503)
  assert.deepEqual(told.problems, ['silent-source'])
  const env = { DATABASE_URL: await commandLineUrl(connectionString) }
  assert.equal(
    (await runCommand(['status', '--check', 'critical'], { env })).code,
    0,
    'no probe restarts a worker',
  )
  if (missing('promtool')) t.diagnostic(`${missing('promtool')}: the alert is not asked`)
  else await assertFires(port.url, 'WorkspaceUsageSilentSource')

  await mark('ssh')
  await untilAllWell(database, port.url)
  await fallSilent()
  assert.equal((await runCommand(['sources', '--retire', 'ssh'], { env })).code, 0)
  await untilAllWell(database, port.url)
})
