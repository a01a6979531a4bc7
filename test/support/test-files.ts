import { globSync } from 'node:fs'
import path from 'node:path'
import { ROOT } from './checkout.ts'

/** These files run only by name, because each takes longer than a few seconds. */
const SOAK = path.join('test', 'soak', path.sep)

/**
 * Parts of the paths of the files that take longest. They start first, so that none of them runs alone at the end. A
 * file that is missing here costs seconds, nothing else.
 */
const LONGEST = [
  'package.test',
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
 * test/soak/.
 */
export function selectTestFiles(names: readonly string[]): string[] {
  const parts = names.map(name => path.normalize(path.isAbsolute(name) ? path.relative(ROOT, name) : name))
  return globSync('test/**/*.test.ts', { cwd: ROOT })
    .filter(file => (parts.length === 0 ? !file.startsWith(SOAK) : parts.some(part => file.includes(part))))
    .sort((one, other) => place(one) - place(other) || one.localeCompare(other))
    .map(file => path.join(ROOT, file))
}

function place(file: string): number {
  const found = LONGEST.findIndex(part => file.includes(part))
  return found === -1 ? LONGEST.length : found
}
