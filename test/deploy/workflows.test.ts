import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { MANIFEST, ROOT } from '../support/checkout.ts'
import { SERVICES } from './compose-file.ts'

interface Step {
  uses?: string
  run?: string
  with?: Record<string, unknown>
}

interface Job {
  'timeout-minutes'?: number
  env?: Record<string, string>
  permissions?: Record<string, string>
  strategy?: { matrix: Record<string, (string | number)[]> }
  needs?: string | string[]
  uses?: string
  steps?: Step[]
}

interface Workflow {
  permissions: Record<string, string>
  concurrency: { group: string }
  jobs: Record<string, Job>
}

const FOLDER = path.join(ROOT, '.github/workflows')
const FILES = readdirSync(FOLDER)
const TEXTS = FILES.map(file => readFileSync(path.join(FOLDER, file), 'utf8'))
const WORKFLOWS = Object.fromEntries(
  FILES.map((file, index) => [path.parse(file).name, parse(TEXTS[index]!) as Workflow]),
)
const JOBS = Object.entries(WORKFLOWS).flatMap(([workflow, { jobs }]) =>
  Object.entries(jobs).map(([name, job]) => ({ name: `${workflow}: ${name}`, job })),
)
const STEPS = JOBS.flatMap(({ name, job }) => (job.steps ?? []).map(step => ({ name, step })))

test('the workflows test every PostgreSQL that is supported, and the oldest Node', () => {
  const { postgres, package: built } = WORKFLOWS.test!.jobs
  assert.deepEqual(postgres?.strategy?.matrix.postgres, [14, 15, 16, 17, 18])
  const readme = readFileSync(path.join(ROOT, 'README.md'), 'utf8')
  assert.match(readme, /PostgreSQL 14/)
  const [oldest, current] = built!.strategy!.matrix.node!.map(String)
  assert.equal(`>=${oldest}`, `${MANIFEST.engines.node}.0`)
  assert.equal(current, MANIFEST.devDependencies.node!.split('.')[0])
})

test('the workflow tests a Citus cluster, at the ports that compose publishes', () => {
  const { citus } = WORKFLOWS.test!.jobs
  const published = Object.keys(SERVICES)
    .filter(name => /^citus-(coordinator|worker)/.test(name))
    .map(name => /127\.0\.0\.1:\$\{\w+:-(\d+)\}/.exec(SERVICES[name]!.ports![0]!)![1])
  const { CITUS_URL: url, CITUS_WORKERS: workers } = citus!.env!
  const used = [new URL(url!).port, ...workers!.split(',').map(address => address.split(':')[1])]
  assert.deepEqual(used, published)
  assert.ok(citus!.steps!.some(({ run }) => run === 'node test/run.ts citus'))
})

test('each job of a workflow ends in bounded time, and no workflow gets more permissions than it names', () => {
  for (const [name, { permissions, concurrency }] of Object.entries(WORKFLOWS)) {
    assert.ok(concurrency.group, name)
    assert.ok(
      Object.values(permissions).every(access => access === 'read'),
      name,
    )
  }
  for (const { name, job } of JOBS) {
    if (job.uses === undefined) assert.ok(job['timeout-minutes']! <= 30, name)
  }
})

test('each job of the release has only the permissions that it needs', () => {
  const permissions = Object.entries(WORKFLOWS.release!.jobs).map(([name, job]) => [name, job.permissions])
  assert.deepEqual(Object.fromEntries(permissions), {
    version: { contents: 'read' },
    test: { contents: 'read' },
    package: { contents: 'read', 'id-token': 'write' },
    image: { contents: 'read', packages: 'write' },
    notes: { contents: 'write' },
  })
})

test('nothing is released before the tag is the version and all tests have passed', () => {
  const { test: tests, package: published, image, notes } = WORKFLOWS.release!.jobs
  assert.equal(tests?.uses, './.github/workflows/test.yml')
  assert.deepEqual(published?.needs, ['version', 'test'])
  assert.deepEqual(image?.needs, ['version', 'test'])
  assert.deepEqual(notes?.needs, ['version', 'package', 'image'])
})

test('every action is pinned by its commit, with its version beside it', () => {
  const used = TEXTS.flatMap(text => [...text.matchAll(/uses: (.*)/g)].map(([, action]) => action!))
  const foreign = used.filter(action => !action.startsWith('./'))
  assert.ok(foreign.length > 5)
  for (const action of foreign) assert.match(action, /^[\w-]+\/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$/)
  const versions = new Map<string, string>()
  for (const [name, pin] of foreign.map(action => action.split('@') as [string, string])) {
    assert.equal(versions.get(name) ?? pin, pin, `${name} has two versions`)
    versions.set(name, pin)
  }
})

test('no script of a workflow holds text that somebody else can choose, and no checkout leaves its token', () => {
  for (const { name, step } of STEPS) {
    const expressions = [...(step.run ?? '').matchAll(/\$\{\{\s*([^}]*?)\s*\}\}/g)].map(([, inner]) => inner)
    assert.deepEqual(
      expressions.filter(inner => inner !== 'job.services.postgres.id'),
      [],
      name,
    )
    if (step.uses?.startsWith('actions/checkout@')) {
      assert.equal(step.with?.['persist-credentials'], false, name)
    }
  }
})

test('every script and file of this package that a workflow runs exists', () => {
  const scripts = STEPS.flatMap(({ step }) => [...(step.run ?? '').matchAll(/npm run (?:-s )?([\w:]+)/g)])
  for (const [, script] of scripts) assert.ok(script! in MANIFEST.scripts, script)
  const files = STEPS.flatMap(({ step }) => [...(step.run ?? '').matchAll(/(?:bash|node) ([\w.][\w./-]+)/g)])
  assert.ok(files.length >= 3)
  for (const [, file] of files) assert.ok(existsSync(path.join(ROOT, file!)), file)
})

test('the notes of a release are the section of the changelog, and a version without one is refused', () => {
  const notes = (version: string) =>
    execFileSync('bash', ['.github/release-notes', version], { cwd: ROOT, encoding: 'utf8', stdio: 'pipe' })
  assert.match(notes(MANIFEST.version), /^\s*\S/)
  assert.doesNotMatch(notes(MANIFEST.version), /^## /m)
  assert.throws(() => notes('9.9.9'), /CHANGELOG\.md has no section "## 9\.9\.9"/)
})
