/**
 * A service that marks the ids of its arguments every few milliseconds. At SIGUSR2 it marks them, keeps its event loop
 * busy for BLOCK_MS, marks them again, and prints when that was, in milliseconds since 1970. Then it marks no more, and
 * lives on until SIGTERM.
 */

import pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'

const ids = process.argv.slice(2)
const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL! })
const tracker = new UsageTracker(pool, { source: 'client' })

const mark = () => {
  for (const id of ids) tracker.mark(id)
}
const marking = setInterval(mark, 5)
const living = setInterval(() => {}, 60_000)

process.once('SIGUSR2', () => {
  clearInterval(marking)
  mark()
  const end = performance.now() + Number(process.env.BLOCK_MS)
  while (performance.now() < end);
  const lastMark = Date.now()
  mark()
  console.log(JSON.stringify({ lastMark, marked: tracker.stats().marked }))
})
process.once('SIGTERM', async () => {
  clearInterval(living)
  const { left } = await tracker.close()
  await pool.end()
  console.log(JSON.stringify({ left, dropped: tracker.stats().dropped }))
})
console.log('it marks')
