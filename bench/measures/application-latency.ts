import { DEFAULT_BATCH_SIZE } from '../../src/flush/flush.ts'
import type { ApplicationTask } from '../load/application.ts'
import { type Cores, pinServer } from '../load/cores.ts'
import { duringDrain, idly } from '../load/during.ts'
import { forgetMarks, storeClosedMarks } from '../load/pending.ts'
import { alternate, atMost, type Measure, row, type Stage, type Summary } from '../measure.ts'
import { withPool } from '../support/database.ts'

const DRAINED = 200_000
const BATCH_SIZES = [500, 1_000, 1_500, 3_000, 10_000]
const IDLE_SECONDS = 6
const ROUNDS = 2

type Subject = 'idle' | `${number}`

/** Whether the application notices a drain. A flush locks the workspaces of its batch until it commits. */
export const applicationLatency: Measure = {
  name: 'application-latency',
  title: "The application's own UPDATEs of the workspaces that are being flushed",
  async run(stage) {
    await using cores = await pinServer(stage.server)
    const marks = stage.scaled(DRAINED, 20)
    const load: ApplicationTask = {
      connectionString: stage.million,
      statement: 'UPDATE workspaces SET last_used_at = last_used_at WHERE id = $1',
      ids: marks,
      perSecond: 500,
      connections: 8,
    }
    const { p99, rates } = await measure(stage, cores, load)
    await withPool(stage.million, forgetMarks)
    const [idle, ours] = [p99.idle!.median, p99[`${DEFAULT_BATCH_SIZE}`]!.median]
    return {
      rows: [
        row('p99, no drain', 'ms', p99.idle!),
        ...BATCH_SIZES.map(size =>
          row(
            `p99, batches of ${inWords(size)}`,
            'ms',
            p99[`${size}`]!,
            `drains ${inWords(rates[size]!)} marks/s`,
          ),
        ),
      ],
      limits:
        `${inWords(load.perSecond)} UPDATEs a second of random workspaces out of the ${inWords(marks)} that are ` +
        'drained, each timed from the moment at which it should have been sent, with its commit. A batch locks its ' +
        'workspaces until it commits. With a batch of 1 % of the drained workspaces, one UPDATE in a hundred waits for ' +
        `it: so larger batches show in the 99th percentile, and smaller ones do not. ${cores.said}`,
      targets: [atMost(`p99 of an UPDATE during a drain, to that without`, ours / idle, 2, 'times')],
      chart: {
        kind: 'line',
        title: "The application's UPDATEs during a drain",
        subtitle: `99th percentile by the size of a batch, ${inWords(marks)} marks of a million workspaces`,
        unit: 'milliseconds',
        log: true,
        categories: BATCH_SIZES.map(inWords),
        series: [
          { name: 'during a drain', values: BATCH_SIZES.map(size => p99[`${size}`]!.median) },
          { name: 'no drain', values: BATCH_SIZES.map(() => idle) },
        ],
        file: 'application-latency',
      },
    }
  },
}

/** The default and no drain run twice, the other sizes once. */
async function measure({ million, scaled, progress }: Stage, cores: Cores, load: ApplicationTask) {
  const rates: Record<number, number> = {}
  const idle = async () => {
    progress('no drain')
    return (await idly(cores, load, IDLE_SECONDS * scaled(1, 0.2))).p99
  }
  const draining = async (batchSize: number) => {
    progress(`batches of ${inWords(batchSize)}`)
    await storeClosedMarks(million, load.ids)
    const { p99, drained } = await duringDrain(cores, load, { batchSize })
    rates[batchSize] = Math.round(drained.flushed / drained.seconds)
    return p99
  }
  const each = (sizes: readonly number[]) =>
    Object.fromEntries(sizes.map(size => [`${size}`, () => draining(size)]))
  const p99: Partial<Record<Subject, Summary>> = {
    ...(await alternate<Subject>(ROUNDS, { idle, ...each([DEFAULT_BATCH_SIZE]) })),
    ...(await alternate(1, each(BATCH_SIZES.filter(size => size !== DEFAULT_BATCH_SIZE)))),
  }
  return { p99, rates }
}

function inWords(number: number): string {
  return number.toLocaleString('en')
}
