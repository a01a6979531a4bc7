import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { test } from 'node:test'
import { startDashboard } from '../../../dev/demo/dashboard.ts'
import { pendingStatus } from '../../../src/activity/status.ts'
import { markUsage } from '../../../src/mark/mark.ts'
import { startFlushWorker } from '../../../src/worker/worker.ts'
import { createTestDatabase } from '../../support/database.ts'
import { flushJobs } from '../../support/jobs.ts'
import { collectLog } from '../../support/log-lines.ts'
import { setPeriodLength } from '../../support/period.ts'
import { until } from '../../support/poll.ts'
import { createWorkspaces, pendingCount } from '../../support/seed.ts'

test('the dashboard lists finished flushes with time and counts, shows the job of one, and deletes it', async () => {
  const { pool, connectionString } = await createTestDatabase()
  await setPeriodLength(pool, 0.1)
  const ids = await createWorkspaces(pool, 1_234)
  const deleted = Array.from({ length: 111 }, () => randomUUID())
  await markUsage(pool, [...ids, ...deleted], { source: 'ssh' })
  await until('the period has closed', async () => (await pendingStatus(pool)).closed === 1_345)
  {
    await using _worker = await startFlushWorker({
      database: connectionString,
      logger: collectLog().logger,
      unknownAfterSeconds: 0,
      batchSize: 2_000,
    })
    await until('the marks are flushed', async () => (await pendingCount(pool)) === 0)
  }
  const [job] = await flushJobs(pool)
  assert.equal(job!.state, 'completed')

  await using dashboard = await startDashboard(connectionString)
  const page = async (path: string) => {
    const response = await fetch(new URL(path, dashboard.url))
    const html = await response.text()
    assert.equal(response.status, 200, html)
    return textOf(html)
  }

  assert.match(await page('/queues'), / workspace-usage-flush short /)
  assert.match(await page('/queues'), / workspace-usage-flush-failed standard /)
  assert.match(
    await page(dashboard.url),
    / workspace-usage-flush .* short policy .* dead letter → workspace-usage-flush-failed /,
  )

  const list = await page(dashboard.url)
  assert.ok(list.includes(' 1345 1234 1234 111 0 '))
  assert.match(list, new RegExp(` ${job!.id} [^—]*\\b\\d{1,2}:\\d{2}\\b[^—]* 1345 1234 1234 111 0 `))

  const address = `/queues/workspace-usage-flush/jobs/${job!.id}`
  assert.match(await page(address), / completed .*&quot;flushed&quot;: 1345,/)
  const isThere = async () => (await flushJobs(pool)).some(({ id }) => id === job!.id)
  assert.equal(await isThere(), true)
  const response = await fetch(new URL(address, dashboard.url), {
    method: 'POST',
    // A browser sends this header, and the dashboard checks it.
    headers: { origin: new URL(dashboard.url).origin },
    body: new URLSearchParams({ intent: 'delete' }),
  })
  assert.equal(response.status, 200, await response.text())
  assert.equal(await isThere(), false)
})

function textOf(html: string): string {
  return html
    .replaceAll(/<script.*?<\/script>/gs, ' ')
    .replaceAll(/<[^>]+>/g, ' ')
    .replaceAll(/\s+/g, ' ')
}
