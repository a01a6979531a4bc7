/** Has more trackers on one pool than an emitter may have listeners without a warning. */

import pg from 'pg'
import { UsageTracker } from '../../src/mark/tracker.ts'

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL! })
const trackers = Array.from({ length: 15 }, (_, n) => new UsageTracker(pool, { source: `source-${n}` }))
for (const tracker of trackers) tracker.mark(crypto.randomUUID())
await Promise.all(trackers.map(tracker => tracker.close()))
if (pool.listenerCount('error') !== 0) throw new Error('a closed tracker still listens')
await pool.end()
