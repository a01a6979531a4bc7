import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { after, beforeEach, test } from 'node:test'
import { pathToFileURL } from 'node:url'
import { transform } from 'esbuild'
import { OLDEST_NODE, refusesNode } from '../../src/cli/node-version.ts'
import { MANIFEST, ROOT } from '../support/checkout.ts'
import { commandLineUrl, runCommandProcess } from '../support/command-line.ts'
import { createTestDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { pendingCount } from '../support/seed.ts'

/* These tests start processes, because only a process shows signals, pipes, exit codes and loaded modules. */

const { pool, connectionString } = await createTestDatabase()
const DATABASE_URL = await commandLineUrl(connectionString)
const UNREACHABLE = 'postgres://127.0.0.1:1/nowhere'
const directory = await mkdtemp(path.join(tmpdir(), 'workspace-usage-main-'))
after(() => rm(directory, { recursive: true }))

beforeEach(async () => {
  await pool.query('TRUNCATE pending_usage, workspaces CASCADE')
})

test('workspace-usage as a process prints its version, and ends with 0, 1 or 2', async () => {
  assert.deepEqual(await runCommandProcess(['--version']), {
    code: 0,
    stdout: `${MANIFEST.version}\n`,
    stderr: '',
  })
  const [id] = [randomUUID()]
  const marked = await runCommandProcess(['mark'], { env: { DATABASE_URL }, input: `${id}\n` })
  assert.deepEqual(marked, {
    code: 0,
    stdout: 'marked 1 workspace, 1 for the first time in this period\n',
    stderr: '',
  })
  assert.equal((await runCommandProcess(['status'], { env: { DATABASE_URL: UNREACHABLE } })).code, 1)
  assert.equal((await runCommandProcess(['status'])).code, 2)
})

test('idle ends with 0 and prints no error when its reader closes the pipe, as in "idle | head"', async () => {
  await pool.query('INSERT INTO workspaces SELECT FROM generate_series(1, 30000)')
  await pool.query(`UPDATE workspaces SET last_used_at = '2020-01-01'`)
  const child = start(['idle', '--for', '1s', '--csv'])
  const stderr = text(child.stderr)
  await once(child.stdout, 'data')
  child.stdout.destroy()
  const [code] = await once(child, 'exit')
  assert.deepEqual([code, await stderr], [0, ''])
})

test('a command whose standard error is closed still ends with its exit code', async () => {
  const child = start(['mark', '42'])
  child.stderr.destroy()
  const [code] = await once(child, 'exit')
  assert.equal(code, 2)
})

for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const) {
  test(`mark that gets ${signal} in the middle reports how many it has stored, and ends with ${code}`, async () => {
    const child = start(['mark'])
    const output = Promise.all([text(child.stdout), text(child.stderr)])
    for (let i = 0; i < 10_005; i++) child.stdin.write(`${randomUUID()}\n`)
    await until('the first batch is stored', async () => (await pendingCount(pool)) === 10_000)
    child.kill(signal)
    const exit = await once(child, 'exit')
    assert.deepEqual(exit, [code, null])
    assert.deepEqual(await output, [
      'marked 10000 workspaces, 10000 for the first time in this period\n',
      `ended by ${signal}: only these are stored\n`,
    ])
    assert.equal(await pendingCount(pool), 10_000)
  })
}

const PACKAGES = [
  ...['commander', 'pg', 'kysely', 'pg-boss', 'pino', 'cli-table3', 'cli-progress'],
  ...['hono', '@hono/node-server', '@opentelemetry/sdk-metrics', '@pg-boss/dashboard'],
]
const cases: { args: string[]; modules: string[]; packages: string[] }[] = [
  { args: ['--help'], modules: [], packages: ['commander'] },
  { args: ['--version'], modules: [], packages: ['commander'] },
  { args: ['status'], modules: ['status'], packages: ['commander', 'pg'] },
  { args: ['doctor'], modules: ['doctor'], packages: ['commander', 'pg', 'kysely', 'cli-table3'] },
  { args: ['sources'], modules: ['sources'], packages: ['commander', 'pg', 'cli-table3'] },
  { args: ['mark', randomUUID()], modules: ['mark', 'workspace-id-lines'], packages: ['commander', 'pg'] },
  { args: ['flush'], modules: ['flush'], packages: ['commander', 'pg', 'kysely'] },
  { args: ['idle', '--for', '1d'], modules: ['idle'], packages: ['commander', 'pg', 'kysely'] },
  { args: ['grant', '--reader', 'nobody'], modules: ['duties'], packages: ['commander', 'pg', 'kysely'] },
  {
    args: ['explain', randomUUID()],
    modules: ['explain'],
    packages: ['commander', 'pg', 'cli-table3'],
  },
  { args: ['period'], modules: ['period'], packages: ['commander', 'pg', 'kysely'] },
  {
    args: ['migrate'],
    modules: ['migrate'],
    packages: ['commander', 'pg', 'kysely', 'pg-boss', 'pino'],
  },
  {
    args: ['worker'],
    modules: ['worker'],
    packages: ['commander', 'pg', 'kysely', 'pg-boss', 'pino'],
  },
]
for (const { args, modules, packages } of cases) {
  test(`workspace-usage ${args[0]} loads only the packages that it needs: ${packages.join(', ')}`, async () => {
    const loaded = await loadedBy(args)
    const commands = loaded.flatMap(url => /\/src\/cli\/commands\/([a-z-]+)\.ts$/.exec(url)?.[1] ?? [])
    assert.deepEqual(commands.sort(), ['list', ...modules].sort())
    const found = PACKAGES.filter(name => loaded.some(url => url.includes(`/node_modules/${name}/`)))
    assert.deepEqual(found, packages)
  })
}

test("workspace-usage on a Node that is too old says so in one line, before it loads anything that this Node can't parse", async t => {
  const node = oldNode()
  if (node === undefined) return t.skip(`no Node older than ${OLDEST_NODE} is in PATH`)
  for (const name of ['main', 'node-version']) {
    const source = await readFile(path.join(ROOT, `src/cli/${name}.ts`), 'utf8')
    const { code } = await transform(source, { loader: 'ts' })
    await writeFile(path.join(directory, `${name}.js`), code.replaceAll(/("\.\/[a-z-]+)\.ts"/g, '$1.js"'))
  }
  await writeFile(path.join(directory, 'package.json'), '{"type": "module"}')
  await writeFile(path.join(directory, 'program.js'), 'await using resource = not parsed by it')
  const child = spawn(node.path, [path.join(directory, 'main.js'), 'status'], { stdio: 'pipe' })
  const output = Promise.all([text(child.stdout), text(child.stderr)])
  assert.deepEqual(await once(child, 'exit'), [1, null])
  const line = `workspace-usage needs Node ${OLDEST_NODE} or newer; this is ${node.version}.\n`
  assert.deepEqual(await output, ['', line])
})

test('workspace-usage refuses exactly the Nodes that are older than the one in package.json, to the minor version', () => {
  assert.equal(MANIFEST.engines.node, `>=${OLDEST_NODE}`)
  const versions = ['20.20.2', '22.11.9', '22.12.0', '22.13.0', '23.0.0', '24.1.0']
  const refused = versions.filter(node => refusesNode({ versions: { node }, stderr: { write: () => {} } }))
  assert.deepEqual(refused, ['20.20.2', '22.11.9'])
})

function start(args: string[]) {
  return spawn(process.execPath, ['src/cli/main.ts', ...args], {
    cwd: ROOT,
    env: { PATH: process.env.PATH, DATABASE_URL },
    stdio: 'pipe',
  })
}

async function loadedBy(args: string[]): Promise<string[]> {
  const file = path.join(directory, `${randomUUID()}.json`)
  const hook = pathToFileURL(path.join(import.meta.dirname, 'loaded-modules.ts')).href
  const env = { DATABASE_URL: UNREACHABLE, NODE_OPTIONS: `--import=${hook}`, LOADED_MODULES: file }
  await runCommandProcess(args, { env })
  return JSON.parse(await readFile(file, 'utf8'))
}

/** A Node in PATH that is older than OLDEST_NODE. */
function oldNode(): { path: string; version: string } | undefined {
  const candidates = (process.env.PATH ?? '').split(path.delimiter).map(folder => path.join(folder, 'node'))
  for (const candidate of candidates.filter(existsSync)) {
    const version = execFileSync(candidate, ['--version'], { encoding: 'utf8' }).trim().slice(1)
    if (refusesNode({ versions: { node: version }, stderr: { write: () => {} } })) {
      return { path: candidate, version }
    }
  }
  return undefined
}
