import type { Page } from 'playwright-core'
import { FLUSH_QUEUE } from '../../src/worker/queue.ts'
import type { Scene } from './scene.ts'

/* The pages of the dashboard that the test looks at, and of which the README has pictures. */

const COUNTS = ['flushed', 'workspaces', 'updated', 'unknown', 'held'].map(count => `&col=output.${count}`)

/** The list of the finished flushes, with times and counts. */
export async function openFlushes(page: Page, { url }: Scene): Promise<void> {
  const columns = `state=completed&col=completedOn${COUNTS.join('')}`
  await page.goto(`${url}/queues/${FLUSH_QUEUE}?${columns}`, { waitUntil: 'networkidle' })
}

/** One job. */
export async function openJob(page: Page, { url }: Scene, job: string): Promise<void> {
  await page.goto(`${url}/queues/${FLUSH_QUEUE}/jobs/${job}`, { waitUntil: 'networkidle' })
}
