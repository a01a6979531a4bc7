import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { freePort } from '../../dev/postgres/free-port.ts'
import { createTestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { createWorkspaces, storeClosedMarks } from '../support/seed.ts'
import { startWorkerWithPort } from '../support/worker-port.ts'

const PROMETHEUS = '/usr/bin/prometheus'

test("Debian's Prometheus scrapes a worker, and answers queries of its series", async t => {
  if (!existsSync(PROMETHEUS)) return t.skip(`${PROMETHEUS} is not installed`)
  const database = await createTestDatabase()
  const ids = await createWorkspaces(database.pool, 3)
  await storeClosedMarks(database.pool, ids, { source: 'ssh' })
  const { url, stop } = await startWorkerWithPort(database)
  t.after(stop)
  const prometheus = await startPrometheus(t, new URL(url).host)
  const query = async (expression: string) => {
    const asked = new URL('/api/v1/query', prometheus)
    asked.searchParams.set('query', expression)
    const { data } = (await (await fetch(asked)).json()) as {
      data: { result: { value: [number, string] }[] }
    }
    return data.result.map(({ value }) => Number(value[1]))
  }
  const untilAnswer = (expression: string, wanted: number[]) =>
    until(`Prometheus answers ${expression}`, () => query(expression), {
      accept: answer => JSON.stringify(answer) === JSON.stringify(wanted),
      timeoutMs: 30_000,
      intervalMs: 200,
    })
  await untilAnswer('workspace_usage_flush_marks_total{source="ssh"}', [3])
  await untilAnswer('workspace_usage_healthy', [1])
  await untilAnswer('workspace_usage_lag_seconds', [0])
  await untilAnswer('sum(workspace_usage_pending)', [0])
  await untilAnswer('up', [1])
  await stop()
  await untilAnswer('up', [0])
})

/** @returns the URL of a Prometheus that scrapes a target every second, until the end of the test */
async function startPrometheus(t: { after(end: () => unknown): void }, target: string): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'prometheus-'))
  const config = path.join(directory, 'prometheus.yml')
  await writeFile(
    config,
    `global: { scrape_interval: 1s }
scrape_configs: [{ job_name: worker, static_configs: [{ targets: ['${target}'] }] }]
`,
  )
  const address = `127.0.0.1:${await freePort()}`
  const program = spawn(
    PROMETHEUS,
    [`--config.file=${config}`, `--storage.tsdb.path=${directory}/tsdb`, `--web.listen-address=${address}`],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let log = ''
  program.stderr.setEncoding('utf8').on('data', part => {
    log += part
  })
  const exited = once(program, 'exit')
  t.after(async () => {
    program.kill('SIGKILL')
    await exited
    await rm(directory, { recursive: true, force: true })
  })
  const isReady = async () => {
    assert.equal(program.exitCode, null, log)
    return (await fetch(`http://${address}/-/ready`)).ok
  }
  await until('Prometheus is ready', isReady, { timeoutMs: 30_000, intervalMs: 100 })
  return `http://${address}`
}
