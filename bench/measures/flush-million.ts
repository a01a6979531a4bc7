import type { ApplicationTask } from '../load/application.ts'
import { pinServer } from '../load/cores.ts'
import { duringDrain, idly } from '../load/during.ts'
import { forgetMarks, storeClosedMarks } from '../load/pending.ts'
import { atMost, type Measure, row, summary } from '../measure.ts'
import { SOURCE, withPool } from '../support/database.ts'

const PARTS = 10

/** A backlog of a mark of every workspace. */
export const flushMillion: Measure = {
  name: 'flush-million',
  title: 'A backlog of a mark of each of the million workspaces, while marks go on',
  long: true,
  async run({ server, million, workspaces, scaled, progress }) {
    await using cores = await pinServer(server)
    const load: ApplicationTask = {
      connectionString: million,
      statement: `INSERT INTO pending_usage (workspace_id, source) VALUES ($1, '${SOURCE}') ON CONFLICT DO NOTHING`,
      ids: workspaces,
      perSecond: 500,
      connections: 8,
    }
    progress('marks, no drain')
    const idle = await idly(cores, load, 10 * scaled(1, 0.2))
    progress('marks during the drain')
    await storeClosedMarks(million, workspaces)
    const { p99, drained } = await duringDrain(cores, load, {})
    await withPool(million, forgetMarks)
    if (drained.flushed < workspaces) throw new Error(`flushed ${drained.flushed} of ${workspaces} marks`)
    const parts = secondsOfParts(drained.ends)
    const [first, last] = [parts[0]!, parts.at(-1)!]
    const once = (value: number) => summary([value])
    return {
      rows: [
        row(
          'marks flushed',
          'marks/s',
          once(drained.flushed / drained.seconds),
          `${drained.ends.length} flushes`,
        ),
        row('a tenth of them', 's', summary(parts), `first ${first.toFixed(1)}, last ${last.toFixed(1)}`),
        row('p99 of a mark, no drain', 'ms', once(idle.p99)),
        row('p99 of a mark, during the drain', 'ms', once(p99), `${load.perSecond} marks/s`),
      ],
      limits:
        'One connection, so one core of the server: to write the rows of workspaces and of their sources takes most of ' +
        "it. The first tenth is the slowest, because after a checkpoint a page's first change writes the whole page " +
        `to the WAL. ${cores.said}`,
      targets: [
        atMost('time of the last tenth, to the first', last / first, 1.5, 'times'),
        atMost('p99 of a mark during the drain, to that without', p99 / idle.p99, 3, 'times'),
      ],
    }
  },
}

/** How long each tenth of the flushes took. */
function secondsOfParts(ends: readonly number[]): number[] {
  const endOf = (part: number) => (part === 0 ? 0 : ends[Math.ceil((ends.length * part) / PARTS) - 1]!)
  return Array.from({ length: PARTS }, (_, part) => endOf(part + 1) - endOf(part))
}
