/*
 * The load of an application, in a process of its own: one statement again and again, each with a random id, at a fixed
 * rate over a few connections.
 */

import pg from 'pg'
import { openLoop } from './open-loop.ts'
import { answer, started, stopped } from './parent.ts'

/** What the application does. */
export interface ApplicationTask {
  connectionString: string
  /** Has one parameter, the id. */
  statement: string
  /** The ids: those of the first places in `shuffled`. */
  ids: number
  perSecond: number
  connections: number
}

const task = JSON.parse(process.argv[2]!) as ApplicationTask
const pool = new pg.Pool({
  connectionString: task.connectionString,
  max: task.connections,
  application_name: 'application',
})
const { rows } = await pool.query<{ id: string }>('SELECT id FROM shuffled WHERE place <= $1', [task.ids])
const send = () => {
  const { id } = rows[Math.floor(Math.random() * rows.length)]!
  return pool.query({ name: 'load', text: task.statement, values: [id] })
}
// Each connection is open and has its plan.
for (let round = 0; round < 20; round++) {
  await Promise.all(Array.from({ length: task.connections }, send))
}
await started()
const latencies = await openLoop(task.perSecond, send, stopped())
await pool.end()
answer(latencies)
