import { existsSync } from 'node:fs'
import { type Browser, chromium, type Page } from 'playwright-core'

/** Where Debian installs Chromium. */
const CHROMIUM = '/usr/bin/chromium'

/** Why there is no browser. Undefined if there is one. */
export const BROWSER_MISSING = existsSync(CHROMIUM) ? undefined : `${CHROMIUM} is not installed`

/** Starts the system's Chromium without a window. */
export async function startChromium(): Promise<Browser> {
  // Its sandbox refuses to work for root.
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : []
  return await chromium.launch({ executablePath: CHROMIUM, args })
}

/** Opens an empty page that loads nothing from other machines, such as fonts. */
export async function newPage(browser: Browser): Promise<Page> {
  const { locale, timeZone } = Intl.DateTimeFormat().resolvedOptions()
  const page = await browser.newPage({
    viewport: { width: 1_280, height: 800 },
    // As the dashboard's server has them. It writes times in its own, and the page would replace them.
    locale,
    timezoneId: timeZone,
    colorScheme: 'light',
    reducedMotion: 'reduce',
  })
  page.setDefaultTimeout(10_000)
  await page.route(
    url => url.hostname !== '127.0.0.1',
    route => route.abort(),
  )
  return page
}
