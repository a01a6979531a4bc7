import assert from 'node:assert/strict'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { COMPILER, MANIFEST, ROOT } from '../support/checkout.ts'
import { createEmptyDatabase } from '../support/database.ts'
import { bundle, packagesOf } from './bundle.ts'
import { CommandError, command } from './command.ts'
import {
  installProject,
  type PackedPackage,
  packCopy,
  runtimePackages,
  temporaryDirectory,
} from './installation.ts'

const directory = await temporaryDirectory()
const consumer = join(directory, 'consumer')
const oldest = join(directory, 'oldest')
const oldestNode = join(oldest, 'node_modules/.bin/node')

const packing = packCopy(directory)
const installing = packing.then(installConsumer)
const installingOldest = installProject(
  oldest,
  { dependencies: { node: '22.12.0' }, allowScripts: { node: true } },
  { optional: true },
)
// A test that needs one of these awaits it, and fails with it.
for (const promise of [packing, installing, installingOldest]) promise.catch(() => {})

test('the package contains the built code with its types, docs and examples, and no sources', async () => {
  const { files } = await packing
  const [built, beside] = [files.filter(isBuilt), files.filter(file => !isBuilt(file))]
  assert.deepEqual(
    beside.filter(file => !/^(docs|examples)\//.test(file)),
    ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'],
  )
  for (const wanted of ['docs/api.md', 'docs/worker.md', 'examples/proxy-middleware.ts']) {
    assert.ok(beside.includes(wanted), wanted)
  }
  for (const wanted of ['src/index', 'src/cli/main', 'migrations/0001_pending_usage']) {
    assert.ok(built.includes(`dist/${wanted}.js`), wanted)
    assert.ok(built.includes(`dist/${wanted}.d.ts`), wanted)
  }
  assert.deepEqual(
    built.filter(file => !/^dist\/(src|migrations)\/.*\.(js|d\.ts)$/.test(file)),
    [],
  )
  assert.deepEqual(
    built.filter(file => /\/(development|test|bench|examples)\//.test(file)),
    [],
  )
})

test('an install of the package brings no development dependency', async t => {
  const unreachable = await installing
  if (unreachable) return t.skip(unreachable)
  const installed = await runtimePackages(consumer)
  for (const name of ['workspace-usage', ...Object.keys(MANIFEST.dependencies)]) {
    assert.ok(installed.includes(name), name)
  }
  const development = Object.keys(MANIFEST.devDependencies)
  assert.deepEqual(
    installed.filter(name => development.includes(name) || /embedded|^@types\//.test(name)),
    [],
  )
})

test('a bundle of a program that only marks is under 85 kB, and contains nothing of the worker', async t => {
  const unreachable = await installing
  if (unreachable) return t.skip(unreachable)
  const { bytes, packages } = await bundle(MARKING_PROGRAM, consumer)
  t.diagnostic(`${bytes} bytes, not minified, without pg`)
  assert.deepEqual(packages, ['leven', 'workspace-usage'])
  assert.ok(bytes > 10_000 && bytes < 85_000, `${bytes} bytes`)
})

test('a bundle of a program that only marks is also under 85 kB through the main entry', async t => {
  const unreachable = await installing
  if (unreachable) return t.skip(unreachable)
  const { bytes } = await bundle(MARKING_PROGRAM.replace('workspace-usage/mark', 'workspace-usage'), consumer)
  t.diagnostic(`${bytes} bytes, not minified, without pg`)
  assert.ok(bytes > 10_000 && bytes < 85_000, `${bytes} bytes`)
})

test('a program that imports the entry for markers loads only one other package', async t => {
  const unreachable = await installing
  if (unreachable) return t.skip(unreachable)
  assert.deepEqual(packagesOf(await loadedBy('workspace-usage/mark')), ['leven', 'workspace-usage'])
})

test('the entry for markers and the main entry export the same classes and functions', async t => {
  const unreachable = await installing
  if (unreachable) return t.skip(unreachable)
  const program = `
    import * as main from 'workspace-usage'
    import * as mark from 'workspace-usage/mark'
    const names = Object.keys(mark)
    console.log(JSON.stringify({ names, different: names.filter(name => mark[name] !== main[name]) }))`
  const { names, different } = JSON.parse(await evaluate(program))
  assert.ok(names.includes('UsageTracker') && names.includes('markUsage') && names.includes('StandbyError'))
  assert.deepEqual(different, [])
})

test('the types of the package fit those of pg and Kysely', async t => {
  const unreachable = await installing
  if (unreachable) return t.skip(unreachable)
  assert.deepEqual(await typeErrors('tsconfig.json'), [])
})

test('the types of the package need neither those of pg nor those of Node', async t => {
  const unreachable = await installing
  if (unreachable) return t.skip(unreachable)
  await rm(join(consumer, 'node_modules/@types'), { recursive: true })
  assert.deepEqual(await typeErrors('tsconfig.bare.json'), [])
})

test('the command of the installed package works, and a program works on the database that it has migrated', async t => {
  const unreachable = await installing
  if (unreachable) return t.skip(unreachable)
  const { connectionString } = await createEmptyDatabase()
  const usage = async (...args: string[]) => {
    const env = { DATABASE_URL: connectionString }
    return (await command('npx', ['workspace-usage', ...args], { cwd: consumer, env })).stdout
  }
  assert.match(await usage('--help'), /^Usage: workspace-usage \[options\] \[command\]\n/)
  assert.match(await usage('migrate'), /^schema public\nmigrated 0001_pending_usage\n/)
  assert.deepEqual(JSON.parse(await usage('status', '--json')), {
    pending: { open: 0, closed: 0, held: 0, awaited: 0, refused: 0, until: 0 },
    lagSeconds: 0,
    lastFlush: null,
    failing: null,
    refused: { total: 0, workspaces: [] },
    workspaces: {
      table: 'public.workspaces',
      view: false,
      idColumn: 'id',
      lastUsedColumn: 'last_used_at',
      createdColumn: null,
      where: null,
    },
    completeSince: null,
    lastResetReason: null,
    health: { ok: true, critical: false, problems: [] },
  })
  assert.deepEqual(await runConsumer(process.execPath, connectionString), {
    ...PRINTED,
    node: process.version,
    applied: 0,
  })
})

test('a program of the installed package, which migrates, and the command work on Node 22.12', async t => {
  const missing = (await installing) ?? (await installingOldest)
  if (missing) return t.skip(missing)
  const { connectionString } = await createEmptyDatabase()
  const migrations = (await packing).files.filter(file => /^dist\/migrations\/.*\.js$/.test(file))
  assert.deepEqual(await runConsumer(oldestNode, connectionString), {
    ...PRINTED,
    node: 'v22.12.0',
    applied: migrations.length,
  })
  const main = join(consumer, 'node_modules/.bin/workspace-usage')
  const { stdout, stderr } = await command(oldestNode, [main, '--version'], { cwd: consumer })
  assert.deepEqual({ stdout, stderr }, { stdout: `${MANIFEST.version}\n`, stderr: '' })
})

function installConsumer({ tarball }: PackedPackage): Promise<string | undefined> {
  const { kysely, pg } = MANIFEST.dependencies
  const { '@types/node': nodeTypes, '@types/pg': pgTypes } = MANIFEST.devDependencies
  return installProject(
    consumer,
    {
      dependencies: { 'workspace-usage': `file:${tarball}`, kysely, pg },
      devDependencies: { '@types/node': nodeTypes, '@types/pg': pgTypes },
    },
    { sources: join(ROOT, 'test/package/consumer') },
  )
}

function isBuilt(file: string): boolean {
  return file.startsWith('dist/')
}

/** The type errors of a project of the consumer. Without errors, its JavaScript is there afterwards. */
async function typeErrors(project: string): Promise<string[]> {
  try {
    await command(process.execPath, [COMPILER, '--pretty', 'false', '--project', project], { cwd: consumer })
    return []
  } catch (error) {
    if (!(error instanceof CommandError)) throw error
    const errors = error.stdout.split('\n').filter(line => /\berror TS\d+: /.test(line))
    if (errors.length === 0) throw error
    return errors
  }
}

async function runConsumer(node: string, connectionString: string): Promise<unknown> {
  const { stdout } = await command(node, ['program.js'], {
    cwd: consumer,
    env: { DATABASE_URL: connectionString },
  })
  return JSON.parse(stdout)
}

/** The addresses of the files that Node loads for the import of a module. */
async function loadedBy(module: string): Promise<string[]> {
  const program = `
    import { registerHooks } from 'node:module'
    const loaded = []
    registerHooks({
      load(url, context, next) {
        loaded.push(url)
        return next(url, context)
      },
    })
    await import(${JSON.stringify(module)})
    console.log(JSON.stringify(loaded))`
  return JSON.parse(await evaluate(program))
}

/** The output of a program that runs in the consumer's project. */
async function evaluate(program: string): Promise<string> {
  const arguments_ = ['--input-type=module', '--eval', program]
  return (await command(process.execPath, arguments_, { cwd: consumer })).stdout
}

const MARKING_PROGRAM = `
import pg from 'pg'
import { markUsage, UsageTracker } from 'workspace-usage/mark'

const pool = new pg.Pool()
const tracker = new UsageTracker(pool, { source: 'ssh' })
process.stdin.on('data', id => tracker.mark(String(id).trim()))
process.stdin.on('end', async () => {
  await markUsage(pool, [])
  await tracker.close()
  await pool.end()
})
`

const PRINTED = {
  queue: 'workspace-usage-flush',
  tracked: { marked: 1, stored: 1, left: 0 },
  flushed: 5,
  updated: 2,
  flushes: 1,
  activity: [
    { workspace_id: 'ad0b51e0-4a1f-4f5c-9d4e-111111111111', pending: false },
    { workspace_id: 'ad0b51e0-4a1f-4f5c-9d4e-222222222222', pending: false },
  ],
  refused: ['InvalidOptionError', 'InvalidWorkspaceIdError', 'InvalidOptionError'],
  classes: [true, true, true],
}
