import assert from 'node:assert/strict'
import { cp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { before, test } from 'node:test'
import { CommandError, command } from './package/command.ts'
import {
  installProject,
  MANIFEST,
  type PackedPackage,
  packCopy,
  ROOT,
  runtimePackages,
  temporaryDirectory,
} from './package/installation.ts'
import { setPeriodLength } from './support/period.ts'
import { createEmptyDatabase } from './support/database.ts'

const directory = await temporaryDirectory()
const consumer = join(directory, 'consumer')
const oldest = join(directory, 'oldest')
const oldestNode = join(oldest, 'node_modules/.bin/node')
let packed: PackedPackage
let unreachable: string | undefined
let oldestMissing: string | undefined

before(async () => {
  const { kysely, pg } = MANIFEST.dependencies
  const { '@types/node': nodeTypes, '@types/pg': pgTypes } = MANIFEST.devDependencies
  const installOldest = installProject(oldest, {
    dependencies: { node: '22.12.0' },
    allowScripts: { node: true },
  })
  const packAndInstall = async () => {
    packed = await packCopy(directory)
    unreachable = await installProject(consumer, {
      dependencies: { 'workspace-usage': `file:${packed.tarball}`, kysely, pg },
      devDependencies: { '@types/node': nodeTypes, '@types/pg': pgTypes },
    })
    await cp(join(ROOT, 'test/package'), consumer, { recursive: true })
  }
  ;[oldestMissing] = await Promise.all([installOldest, packAndInstall()])
})

test('the package holds what runs, with its types, and nothing of what it is made from', () => {
  const { files } = packed
  const [built, beside] = [files.filter(isBuilt), files.filter(file => !isBuilt(file))]
  assert.deepEqual(beside, ['CHANGELOG.md', 'LICENSE', 'README.md', 'package.json'])
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

test('nothing is installed that only its development needs', async t => {
  if (unreachable) return t.skip(unreachable)
  const installed = await runtimePackages(consumer)
  for (const name of ['workspace-usage', ...Object.keys(MANIFEST.dependencies)]) {
    assert.ok(installed.includes(name), name)
  }
  const development = Object.keys(MANIFEST.devDependencies)
  assert.deepEqual(
    installed.filter(name => development.includes(name) || /embedded|dashboard|^@types\//.test(name)),
    [],
  )
})

test('its types fit those of pg and Kysely', async t => {
  if (unreachable) return t.skip(unreachable)
  assert.deepEqual(await typeErrors('tsconfig.json'), [])
})

test('its types need neither those of pg nor of Node', async t => {
  if (unreachable) return t.skip(unreachable)
  await rm(join(consumer, 'node_modules/@types'), { recursive: true })
  assert.deepEqual(await typeErrors('tsconfig.bare.json'), [])
})

test('the command works from there, and so does a program on what it has migrated', async t => {
  if (unreachable) return t.skip(unreachable)
  const { connectionString, pool } = await createEmptyDatabase()
  const usage = async (...args: string[]) => {
    const env = { DATABASE_URL: connectionString }
    return (await command('npx', ['--no', 'workspace-usage', ...args], { cwd: consumer, env })).stdout
  }
  assert.match(await usage('--help'), /^Usage: workspace-usage \[options\] \[command\]\n/)
  assert.match(await usage('migrate'), /^migrated 0001_pending_usage\n/)
  assert.deepEqual(JSON.parse(await usage('status', '--json')), {
    pending: { open: 0, closed: 0 },
    lagSeconds: 0,
    lastFlush: null,
  })
  await setPeriodLength(pool, 0.1)
  const { node, ...printed } = await runConsumer(process.execPath, connectionString)
  assert.equal(node, process.version)
  assert.deepEqual(printed, { ...EXPECTED, applied: 0 })
})

function isBuilt(file: string): boolean {
  return file.startsWith('dist/')
}
