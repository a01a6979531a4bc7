/*
 * A program that forgets to close its tracker: `unclosed-tracker.ts`, with the database in DATABASE_URL. Marks a
 * workspace, and once more, and ends its pool when that is stored.
 */

import { randomUUID } from 'node:crypto'
import pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL! })
const tracker = new UsageTracker(pool)
const id = randomUUID()
tracker.mark(id)
await tracker.drain()
tracker.mark(id)
if (process.argv[2] === 'late') {
  await tracker.close()
  tracker.mark(id)
}
console.log(JSON.stringify(tracker.stats()))
await pool.end()
