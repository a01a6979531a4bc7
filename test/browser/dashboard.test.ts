import assert from 'node:assert/strict'
import { test } from 'node:test'
import { FAILED_FLUSH_QUEUE, FLUSH_QUEUE, HISTORY_QUEUE } from '../../src/worker/queue.ts'
import { atEnd } from '../support/at-end.ts'
import { createTestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { BROWSER_MISSING, newPage, startChromium } from './chromium.ts'
import { openFlushes, openJob } from './dashboard-pages.ts'
import { type Scene, setScene } from './scene.ts'

const errors: string[] = []
const { scene, page } =
  BROWSER_MISSING === undefined ? await start() : ({} as Awaited<ReturnType<typeof start>>)

async function start() {
  const { connectionString } = await createTestDatabase()
  const scene = await setScene(connectionString)
  atEnd(() => scene[Symbol.asyncDispose]())
  const browser = await startChromium()
  atEnd(() => browser.close())
  const page = await newPage(browser)
  page.on('pageerror', ({ message }) => {
    // 418: the page says "2s ago" where its server said "1s ago".
    if (!message.includes('error #418')) errors.push(message)
  })
  return { scene, page }
}

/** A test in the browser. */
function browserTest(name: string, body: () => Promise<void>): void {
  test(name, async t => {
    if (BROWSER_MISSING !== undefined) return t.skip(BROWSER_MISSING)
    await body()
    assert.deepEqual(errors, [], 'errors of the scripts of the page')
  })
}

/** What the page shows, on one line. */
async function text(): Promise<string> {
  return (await page.innerText('main')).replaceAll(/\s+/g, ' ')
}

async function rowsOf(table: string): Promise<string[]> {
  const rows = await page.locator(`${table} tbody tr`).allInnerTexts()
  return rows.map(row => row.replaceAll(/\s+/g, ' ').trim())
}

async function stateOf({ pool, failedJob }: Scene): Promise<string> {
  const { rows } = await pool.query('SELECT state FROM pgboss.job WHERE id = $1', [failedJob])
  return (rows[0] as { state: string }).state
}

const SOON = { timeoutMs: 15_000, intervalMs: 100 }

browserTest(
  'the overview counts the jobs of a worker that has just started, and lists its queues',
  async () => {
    await page.goto(scene.url, { waitUntil: 'networkidle' })
    const shown = await text()
    assert.match(shown, new RegExp(`${FLUSH_QUEUE} .*${FAILED_FLUSH_QUEUE} `))
    assert.match(shown, /TOTAL JOBS [1-9]/i)
    assert.match(shown, /Slow Query .* slow query\./)
  },
)

browserTest(
  'the page of the flush queue has numbers at once, and no banner that says that none are recorded',
  async () => {
    await page.goto(`${scene.url}/queues/${FLUSH_QUEUE}`, { waitUntil: 'networkidle' })
    const shown = await text()
    assert.match(shown, /short policy .*dead letter → workspace-usage-flush-failed/)
    assert.match(shown, /TOTAL [1-9]/i)
    assert.doesNotMatch(shown, /being recorded/)
  },
)

browserTest(
  'the list of finished flushes shows when each was and what it did, the newest first',
  async () => {
    await openFlushes(page, scene)
    const rows = await rowsOf('table')
    const flushes = rows.filter(row => !/ 0 0 0 0 0$/.test(row))
    const counts = flushes.map(row => /^\S.*\d{1,2}:\d\d(?: [AP]M)? (.*)$/.exec(row)?.[1])
    assert.deepEqual(counts.slice(-4), [
      '295 295 295 0 0',
      '682 682 682 0 0',
      '407 407 407 0 0',
      '1345 1234 1234 111 0',
    ])
  },
)

browserTest('the page of a finished job shows its output, with the marks by source', async () => {
  await openJob(page, scene, scene.finishedJob)
  const shown = await text()
  assert.match(shown, /Job detail completed /)
  assert.match(shown, /"flushed": 1345,/)
  assert.match(shown, /"bySource": \{ "ssh": 1345 \}/)
})

browserTest('the page of a failed job shows the error of the database', async () => {
  await openJob(page, scene, scene.failedJob)
  const shown = await text()
  assert.match(shown, /Job detail failed Retry /)
  assert.match(shown, /"message": "canceling statement due to lock timeout"/)
})

browserTest(
  'the queue of jobs that failed for good lists that job, and the schedules are there',
  async () => {
    await page.goto(`${scene.url}/queues/${FAILED_FLUSH_QUEUE}`, { waitUntil: 'networkidle' })
    assert.equal((await rowsOf('table')).length, 1)
    await page.goto(`${scene.url}/schedules`, { waitUntil: 'networkidle' })
    const [flushes, history, ...others] = await rowsOf('table')
    assert.match(flushes!, new RegExp(`^${FLUSH_QUEUE} \\* \\* \\* \\* \\* `))
    assert.match(history!, new RegExp(`^${HISTORY_QUEUE} 17 3 \\* \\* \\* `))
    assert.deepEqual(others, [])
  },
)

browserTest('the page of warnings lists those of pg-boss', async () => {
  await page.goto(`${scene.url}/warnings`, { waitUntil: 'networkidle' })
  const [warning, ...others] = await rowsOf('table')
  assert.match(warning!, /^Slow Query Warning: slow query\. .* 31\.40s /)
  assert.deepEqual(others, [])
})

browserTest('a click on Retry lets the worker run the failed job, and it flushes', async () => {
  await openJob(page, scene, scene.failedJob)
  await page.getByRole('button', { name: 'Retry' }).click()
  const confirm = page.getByRole('dialog').getByRole('button', { name: 'Retry' })
  if (await confirm.isVisible()) await confirm.click()
  await until('the retried job has flushed', async () => (await stateOf(scene)) === 'completed', SOON)
  await openJob(page, scene, scene.failedJob)
  assert.match(await text(), /Job detail completed .*"flushed": /)
})
