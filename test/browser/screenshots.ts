/** Takes the pictures of the README anew: `npm run docs:screenshots`. It needs Chromium, and shares the pages of the test. */

import path from 'node:path'
import type { Page } from 'playwright-core'
import { createTestDatabase } from '../support/database.ts'
import { BROWSER_MISSING, newPage, startChromium } from './chromium.ts'
import { openFlushes, openJob } from './dashboard-pages.ts'
import { setScene } from './scene.ts'

const IMAGES = path.join(import.meta.dirname, '../../docs/images')

if (BROWSER_MISSING !== undefined) throw new Error(BROWSER_MISSING)
const { connectionString } = await createTestDatabase()
await using scene = await setScene(connectionString)
await using cleanUp = new AsyncDisposableStack()
const browser = cleanUp.adopt(await startChromium(), started => started.close())
const page = await newPage(browser)
await page.setViewportSize({ width: 1_200, height: 720 })
await openFlushes(page, scene)
await take(page, 'dashboard-flushes.png')
await openJob(page, scene, scene.finishedJob)
await take(page, 'dashboard-job.png')

/** Gradients make up most of a PNG, and tell nothing. The output of a job is shown whole. */
async function take(page: Page, name: string): Promise<void> {
  await page.addStyleTag({
    content:
      '* { background-image: none !important; box-shadow: none !important; max-height: none !important }',
  })
  await page.screenshot({ path: path.join(IMAGES, name) })
}
