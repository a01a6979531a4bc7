import { globSync } from 'node:fs'
import path from 'node:path'
import { ROOT } from './checkout.ts'

const LONG_FAULTS = path.join('test', 'faults', 'long', path.sep)

/** Fault tests that keep the whole machine busy, so that other tests beside them would miss their deadlines. */
const BUSY_FAULTS = [
  'mad-marker',
  'network-flush',
  'network-markers',
  'network-worker',
  'pooler',
  'server-connections',
  'server-crash',
  'server-stopped',
  'worker-kills',
].map(name => path.join('test', 'faults', `${name}.test.ts`))

/** These files run only by name, because each takes longer than a few seconds. */
const BY_NAME = [path.join('test', 'soak', path.sep), LONG_FAULTS, ...BUSY_FAULTS]

/**
 * Parts of the paths of the files that take longest. They start first, so that none of them runs alone at the end. A
 * file that is missing here costs seconds, nothing else.
 */
const LONGEST = [
  'package.test',
  'faults',
  'docs',
  'tracker',
  'demo.test',
  'embedded-postgres',
  'uninstall',
  'worker',
  'promises',
  'access',
  'cli',
]

/**
 * The test files whose paths hold one of `names`, absolute, the longest first. Without a name: all but those of
 * test/soak/ and test/faults/long/, and the busiest of test/faults/.
 */
export function selectTestFiles(names: readonly string[]): string[] {
  const parts = names.map(name => path.normalize(path.isAbsolute(name) ? path.relative(ROOT, name) : name))
  return globSync('test/**/*.test.ts', { cwd: ROOT })
    .filter(file => (parts.length === 0 ? !takesLong(file) : parts.some(part => file.includes(part))))
    .sort((one, other) => place(one) - place(other) || one.localeCompare(other))
    .map(file => path.join(ROOT, file))
}

/** Whether a file runs only by name. @param file relative to the root */
function takesLong(file: string): boolean {
  return BY_NAME.some(place => file.startsWith(place))
}

/** How long a test of these files may take, in ms. */
export function timeoutOf(files: readonly string[]): number {
  const minutes = files.some(file => path.relative(ROOT, file).startsWith(LONG_FAULTS)) ? 10 : 2
  return minutes * 60_000
}

function place(file: string): number {
  const found = LONGEST.findIndex(part => file.includes(part))
  return found === -1 ? LONGEST.length : found
}
