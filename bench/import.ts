import { execFile } from 'node:child_process'
import path from 'node:path'
import { pathToFileURL } from 'node:url'
import { promisify } from 'node:util'
import { type Measurement, median, ms } from './measurement.ts'

const ROOT = path.join(import.meta.dirname, '..')
const ROUNDS = 31

const run = promisify(execFile)

/** What the import of some modules costs a process. */
interface Cost {
  ms: number
  /** Resident memory of the whole process afterwards, in bytes. */
  rss: number
}

/**
 * Measures what the import of this package costs, beside that of `pg`, which a program needs anyway. The entry for
 * markers and the main entry are measured. Each import is a new process, in alternating order.
 */
export async function measureImport(
  _server: string,
  progress: (step: string) => void,
): Promise<Measurement[]> {
  progress('building the package')
  await run('npm', ['run', '--silent', 'build'], { cwd: ROOT })
  const entry = (file: string) => pathToFileURL(path.join(ROOT, 'dist/src', file)).href
  const programs = {
    pg: ['pg'],
    marker: ['pg', entry('mark/index.js')],
    main: ['pg', entry('index.js')],
  }
  type Name = keyof typeof programs
  const names = Object.keys(programs) as Name[]
  const costs: Record<Name, Cost[]> = { pg: [], marker: [], main: [] }
  progress(`importing it in ${names.length * ROUNDS} processes`)
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of round % 2 ? names.toReversed() : names) {
      costs[name].push(await importing(programs[name]))
    }
  }
  const pg = medianCost(costs.pg)
  const marker = beyond(pg, medianCost(costs.marker))
  return [
    {
      measure: 'import of workspace-usage/mark',
      result: inWords(marker),
      comparison: `beyond pg, which takes ${inWords(pg)}`,
      target: 'within 5 ms and 3 MB',
      reached: marker.ms <= 5 && marker.rss <= 3e6,
    },
    {
      measure: 'import of workspace-usage',
      result: inWords(beyond(pg, medianCost(costs.main))),
      comparison: 'beyond pg as well',
    },
  ]
}

async function importing(modules: readonly string[]): Promise<Cost> {
  const program = `
    const started = performance.now()
    ${modules.map(module => `await import(${JSON.stringify(module)})`).join('\n')}
    const ms = performance.now() - started
    console.log(JSON.stringify({ ms, rss: process.memoryUsage.rss() }))`
  const { stdout } = await run(process.execPath, ['--input-type=module', '--eval', program], { cwd: ROOT })
  return JSON.parse(stdout)
}

function medianCost(costs: readonly Cost[]): Cost {
  return { ms: median(costs.map(({ ms }) => ms)), rss: median(costs.map(({ rss }) => rss)) }
}

function beyond(pg: Cost, other: Cost): Cost {
  return { ms: other.ms - pg.ms, rss: other.rss - pg.rss }
}

function inWords(cost: Cost): string {
  return `${ms(cost.ms)}, ${(cost.rss / 1e6).toFixed(1)} MB`
}
