import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { ROOT } from './support/checkout.ts'

/*
 * Use flows one way: mark → pending_usage → flush → workspaces. The folders stand in this order, and the table
 * says which place may import which. An import of a type counts as well.
 */

/** A place in the tree, and the places that it may import beside itself. A file counts to the narrowest place. */
interface Rule {
  place: string
  imports: string[]
}

/** The files of `src` that stand in no folder. All of `src` may import them. */
const ROOT_FILES = [
  'src/errors.ts',
  'src/options.ts',
  'src/duration.ts',
  'src/logger.ts',
  'src/shell-word.ts',
  'src/without-passwords.ts',
  'src/workspace-id.ts',
]

const RULES: Rule[] = [
  ...ROOT_FILES.filter(place => place !== 'src/errors.ts').map(place => ({ place, imports: ROOT_FILES })),
  // Only errors.ts imports these. A bundle would have a class twice otherwise, and instanceof would fail.
  { place: 'src/errors.ts', imports: [...ROOT_FILES, 'src/errors/'] },
  { place: 'src/errors/', imports: ROOT_FILES },
  { place: 'src/index.ts', imports: ['src/'] },
  { place: 'src/database/', imports: ROOT_FILES },
  { place: 'src/mark/', imports: [...ROOT_FILES, 'src/database/'] },
  { place: 'src/flush/', imports: [...ROOT_FILES, 'src/database/'] },
  // The same flush on each shard of a cluster. Whoever flushes does not choose: the database tells which it is.
  {
    place: 'src/flush/flush.ts',
    imports: [...ROOT_FILES, 'src/database/', 'src/flush/', 'src/citus/flush-shards.ts'],
  },
  {
    place: 'src/flush/retry-all.ts',
    imports: [...ROOT_FILES, 'src/database/', 'src/flush/', 'src/citus/retry-shards.ts'],
  },
  { place: 'src/history/', imports: [...ROOT_FILES, 'src/database/'] },
  // It does with rows of the past what a flush does with marks.
  { place: 'src/import/', imports: [...ROOT_FILES, 'src/database/', 'src/flush/', 'src/mark/source.ts'] },
  {
    place: 'src/import/import-on-shards.ts',
    imports: [...ROOT_FILES, 'src/database/', 'src/flush/', 'src/import/', 'src/citus/'],
  },
  { place: 'src/schema/', imports: [...ROOT_FILES, 'src/database/'] },
  {
    place: 'src/schema/migrate.ts',
    imports: [
      ...ROOT_FILES,
      'src/database/',
      'src/schema/',
      'src/citus/',
      'src/access/row-security.ts',
      'src/worker/install-queue.ts',
      'src/worker/queue-upgrade.ts',
    ],
  },
  {
    place: 'src/schema/uninstall.ts',
    imports: [
      ...ROOT_FILES,
      'src/database/',
      'src/schema/',
      'src/citus/remove.ts',
      'src/worker/remove-queue.ts',
    ],
  },
  // The shards: how the tables are distributed, and what runs on each of them.
  { place: 'src/citus/', imports: [...ROOT_FILES, 'src/database/', 'src/schema/', 'src/flush/'] },
  { place: 'src/access/', imports: [...ROOT_FILES, 'src/database/', 'src/worker/queue.ts'] },
  {
    place: 'src/activity/',
    imports: [...ROOT_FILES, 'src/database/', 'src/access/refusal.ts', 'src/worker/queue.ts'],
  },
  // The verdict compares pg-boss's tables with what migrate and workers set. These files load no pg-boss either.
  {
    place: 'src/activity/judge-queue.ts',
    imports: [
      ...ROOT_FILES,
      'src/activity/',
      'src/worker/queue.ts',
      'src/worker/queue-options.ts',
      'src/worker/flush-interval.ts',
    ],
  },
  { place: 'src/reaper/', imports: [...ROOT_FILES, 'src/database/', 'src/activity/'] },
  {
    place: 'src/worker/',
    imports: [
      ...ROOT_FILES,
      'src/database/',
      'src/flush/',
      'src/history/',
      'src/access/',
      'src/activity/',
      'src/reaper/',
      'src/schema/',
    ],
  },
  // access and activity import this file, so it must not load pg-boss.
  { place: 'src/worker/queue.ts', imports: [...ROOT_FILES, 'src/database/', 'src/flush/'] },
  {
    place: 'src/http/',
    imports: [
      ...ROOT_FILES,
      'src/database/',
      'src/activity/',
      'src/worker/queue.ts',
      'src/worker/liveness.ts',
    ],
  },
  // It looks at everything, and loads no pg-boss.
  {
    place: 'src/doctor/',
    imports: [
      ...ROOT_FILES,
      'src/database/',
      'src/schema/adoption-warnings.ts',
      'src/schema/workspaces-table.ts',
      'src/schema/record-names.ts',
      'src/access/',
      'src/activity/',
      'src/worker/queue.ts',
      'src/worker/schema-version.ts',
    ],
  },
  { place: 'src/worker/schema-version.ts', imports: [] },
  { place: 'src/cli/', imports: ['src/'] },
  {
    place: 'migrations/',
    imports: [
      'src/schema/activity-views.ts',
      'src/schema/emptied-dependants.ts',
      'src/schema/workspace-foreign-key.ts',
    ],
  },
  { place: 'dev/', imports: ['src/'] },
  { place: 'bench/', imports: ['src/', 'dev/'] },
  { place: 'examples/', imports: ['src/'] },
  { place: 'test/', imports: ['src/', 'dev/', 'migrations/', 'examples/', 'bench/'] },
]

/** Packages that only some places of `src` may import. Packages that are not named here are free. */
const PACKAGES: Record<string, string | string[]> = {
  // One file holds the metrics of a marker. The build puts what it needs of this package into the entry for markers.
  '@opentelemetry/api': ['src/mark/telemetry.ts', 'src/worker/', 'src/http/'],
  'pg-boss': 'src/worker/',
  'kysely/migration': 'src/schema/migrator.ts',
  commander: 'src/cli/',
  'cli-progress': 'src/cli/',
  'cli-table3': 'src/cli/',
  'csv-parse': 'src/cli/',
}

/** The only packages that a marking service may have to load. It needs `kysely` and `pino` as types only. */
const PACKAGES_OF_A_MARKER = ['leven', '@opentelemetry/api']

interface Import {
  /** Relative to the root, with the line: what an editor opens. */
  at: string
  from: string
  /** A file relative to the root, or a package. */
  to: string
  typeOnly: boolean
}

function importsOf(file: string): Import[] {
  const text = readFileSync(path.join(ROOT, file), 'utf8')
  const statements = text.matchAll(
    /(?:^|\n)\s*(?:import|export)\s+(type\s)?(?:[\w*{}\s,$]+?\sfrom\s+)?'([^']+)'|\bimport\(\s*'([^']+)'\s*\)/g,
  )
  return [...statements].map(match => {
    const specifier = (match[2] ?? match[3])!
    const line = text.slice(0, match.index + match[0].lastIndexOf(specifier)).split('\n').length
    const to = specifier.startsWith('.') ? path.posix.join(path.posix.dirname(file), specifier) : specifier
    return { at: `${file}:${line}`, from: file, to, typeOnly: match[1] !== undefined }
  })
}

const FILES = ['src', 'migrations', 'dev', 'bench', 'examples', 'test'].flatMap(folder =>
  globSync(`${folder}/**/*.ts`, { cwd: ROOT }).filter(file => !file.startsWith('test/package/consumer/')),
)
const IMPORTS = FILES.flatMap(importsOf)

const isBelow = (file: string, place: string) =>
  file === place || (place.endsWith('/') && file.startsWith(place))
const isOurs = (to: string) => to.endsWith('.ts')

function ruleFor(file: string): Rule | undefined {
  return RULES.filter(({ place }) => isBelow(file, place)).toSorted(
    (a, b) => b.place.length - a.place.length,
  )[0]
}

test('every source file has a place in the table of imports, and no place is empty', () => {
  for (const file of FILES) assert.ok(ruleFor(file), `${file} has no place: add one to the table, or move it`)
  for (const { place } of RULES)
    assert.ok(
      FILES.some(file => isBelow(file, place)),
      `${place} holds no file`,
    )
})

test('every import between our files is one that the table of imports allows', () => {
  const ours = IMPORTS.filter(({ to }) => isOurs(to))
  assert.ok(ours.length > 100, 'the imports are read')
  const wrong = ours.filter(({ from, to }) => {
    const { place, imports } = ruleFor(from)!
    return !isBelow(to, place) && !imports.some(allowed => isBelow(to, allowed))
  })
  assert.deepEqual(
    wrong.map(({ at, to }) => `${at} imports ${to}`),
    [],
  )
})

test('each package that belongs to some places is imported in those only', () => {
  const wrong = IMPORTS.filter(({ from, to }) => {
    const places = PACKAGES[to]
    return (
      from.startsWith('src/') && places !== undefined && ![places].flat().some(place => isBelow(from, place))
    )
  })
  assert.deepEqual(
    wrong.map(({ at, to }) => `${at} imports ${to}`),
    [],
  )
  for (const name of Object.keys(PACKAGES))
    assert.ok(
      IMPORTS.some(({ to }) => to === name),
      `${name} is imported`,
    )
})

test('the entry for markers loads no package that a marking service does not need', () => {
  const loaded = reachable('src/mark/index.ts', ({ typeOnly }) => !typeOnly)
  assert.ok(loaded.some(({ to }) => to === 'src/mark/tracker.ts'))
  const packages = loaded.filter(({ to }) => !isOurs(to) && !to.startsWith('node:'))
  assert.deepEqual(
    packages
      .filter(({ to }) => !PACKAGES_OF_A_MARKER.includes(to))
      .map(({ at, to }) => `${at} imports ${to}`),
    [],
  )
})

test('access, activity, doctor and reaper do not load pg-boss', () => {
  const known = [
    'src/access/grant.ts',
    'src/activity/status.ts',
    'src/doctor/diagnose.ts',
    'src/reaper/reap-idle.ts',
  ].flatMap(file => reachable(file, () => true))
  assert.ok(known.length > 0)
  assert.deepEqual(
    known.filter(({ to }) => to === 'pg-boss').map(({ at }) => at),
    [],
  )
})

test('only one function takes a client from a pool, because a client without a listener can end the process', () => {
  const takers = FILES.filter(file => file.startsWith('src/')).filter(file =>
    /pool\.connect\b/i.test(readFileSync(path.join(ROOT, file), 'utf8')),
  )
  // What the second one takes from is a BoundedPool, which calls the first.
  assert.deepEqual(takers.sort(), ['src/database/take-client.ts', 'src/worker/job-database.ts'])
})

test('no test file waits at its top level below its first test', () => {
  // The runner starts the tests that it already knows. If they end while the file waits, the runner believes that the
  // file is done. It then runs the endings of `atEnd` before the tests that are still to come.
  const files = FILES.filter(file => file.endsWith('.test.ts'))
  assert.ok(files.length > 50, 'the files are found')
  const waits = files.flatMap(file => {
    const lines = readFileSync(path.join(ROOT, file), 'utf8').split('\n')
    const first = lines.findIndex(line => /^(?: {2})?(?:test|it|suite|describe)\(/.test(line))
    return lines.flatMap((line, index) =>
      index > first && /^(?:(?:const|let)\b.*\bawait|await|for await)\b/.test(line)
        ? [`${file}:${index + 1}`]
        : [],
    )
  })
  assert.deepEqual(waits, [])
})

/** The imports of a file, and those of our files that it imports, to any depth. */
function reachable(file: string, follow: (found: Import) => boolean): Import[] {
  const found: Import[] = []
  const open = [file]
  const seen = new Set(open)
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    for (const step of IMPORTS.filter(({ from }) => from === next).filter(follow)) {
      found.push(step)
      if (!isOurs(step.to) || seen.has(step.to)) continue
      seen.add(step.to)
      open.push(step.to)
    }
  }
  return found
}
