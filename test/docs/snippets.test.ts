import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { before, test } from 'node:test'
import { atEnd } from '../support/at-end.ts'
import { COMPILER, MANIFEST } from '../support/checkout.ts'
import { type CommandResult, runCommand, startCommand } from '../support/command-line.ts'
import { createConsumer } from '../support/consumer.ts'
import { createTestDatabase, type TestDatabase } from '../support/database.ts'
import { setPeriodLength } from '../support/period.ts'
import { until } from '../support/poll.ts'
import { runProgram, startProgram } from '../support/process.ts'
import { RUN } from '../support/template.ts'
import { type Block, blocksOf, PAGES } from './markdown.ts'

/*
 * Runs every block of code that the pages show: programs as files of a project that has this package installed, SQL on a
 * migrated database, and each line of a shell.
 */

/** The workspace that the pages use. */
const WORKSPACE = '1b4e28ba-2fa1-41d2-883f-0016d3cca427'

/** Names on the pages that must differ here, because other runs of these tests may use the same server. */
const OWN_NAMES = new Map([
  ...['gateway', 'flusher', 'support'].map(name => [name, `usage_docs_${name}_${suffix()}`] as const),
  ...['usage_template', 'usage_test_1'].map(name => [name, `usage_${RUN}_docs_${name}`] as const),
])

const blocks = PAGES.flatMap(blocksOf)
const programs = blocks.filter(({ language, notRun }) => language === 'ts' && notRun === undefined)
const consumer = createConsumer()
const fileOf = (block: Block) => path.join(consumer, `${block.at.replaceAll(/\W+/g, '-')}.ts`)

before(async () => {
  const { pool } = await createTestDatabase()
  for (const [name, own] of OWN_NAMES) {
    if (name.startsWith('usage_')) continue
    await pool.query(`CREATE ROLE ${own}`)
    atEnd(() => dropRole(own))
  }
  await Promise.all(programs.map(block => writeFile(fileOf(block), withOwnNames(block.code))))
})

test('the pages contain programs, SQL and shell commands', () => {
  for (const language of ['ts', 'sql', 'sh']) {
    assert.ok(blocks.filter(block => block.language === language).length >= 3, language)
  }
})

test('the programs in the pages have no type errors', async () => {
  const { code, stdout } = await runProgram(COMPILER, ['--project', consumer], { timeoutMs: 60_000 })
  assert.equal(code, 0, stdout)
})

for (const block of blocks) {
  const { at, language, notRun } = block
  if (notRun !== undefined) test(`the block at ${at} is not run`, t => t.skip(notRun))
  else if (language === 'ts') test(`the program at ${at} works`, () => runBlock(block))
  else if (language === 'sql') test(`the SQL at ${at} works`, () => runSql(block))
}

for (const page of PAGES) {
  const lines = blocksOf(page).filter(({ language, notRun }) => language === 'sh' && notRun === undefined)
  if (lines.length === 0) continue
  test(`the shell commands in ${page} work in their order`, async () => {
    const database = await createDatabase()
    for (const block of lines) await runLines(block, database)
  })
}

async function runBlock(block: Block): Promise<void> {
  const database = await createDatabase()
  const env = { DATABASE_URL: database.connectionString }
  if (block.code.includes('SIGTERM')) return await runUntilStopped(block, database)
  const { code, stdout, stderr } = await runProgram(fileOf(block), [], { env })
  assert.equal(code, 0, stdout + stderr)
}

/** Runs a program that ends at SIGTERM. Its mark must be stored, its worker must flush, and it must end in time. */
async function runUntilStopped(block: Block, { connectionString, pool }: TestDatabase): Promise<void> {
  const program = startProgram(fileOf(block), [], { env: { DATABASE_URL: connectionString } })
  await program.line(/nothing to flush|updated workspaces last_used_at/)
  await until('its mark shows', async () => {
    const { rows } = await pool.query("SELECT FROM workspace_activity WHERE source = 'ssh'")
    return rows.length === 1
  })
  const stopped = performance.now()
  program.kill('SIGTERM')
  assert.deepEqual(await program.untilExit(), { code: 0, signal: null }, program.stderr)
  const ms = performance.now() - stopped
  assert.ok(ms < 1_000, `it ended ${Math.round(ms)} ms after SIGTERM`)
}

async function runSql({ code }: Block): Promise<void> {
  const { pool } = await createDatabase()
  const statements = withOwnNames(code)
    .replaceAll('$1::uuid[]', `'{${WORKSPACE}}'::uuid[]`)
    .replaceAll('$1', `'${WORKSPACE}'`)
  assert.ok(!/\$\d/.test(statements), 'every parameter has a value')
  await pool.query(statements)
}

async function runLines({ at, code }: Block, database: TestDatabase): Promise<void> {
  const lines = code.split('\n').map(line => line.replace(/(^|\s)#.*/, '').trim())
  for (const line of lines.flatMap(line => line.split('&&')).filter(line => line !== '')) {
    const [program, ...args] = withOwnNames(line)
      .trim()
      .split(/\s+/)
      .filter(word => !/^[A-Z_]+=/.test(word))
    if (program === 'npx' && args[0] === 'workspace-usage') await runUsage(at, args.slice(1), database)
    else if (program === 'npm') assertNpmKnows(at, args)
    else assert.fail(`${at}: nobody here knows how to try ${JSON.stringify(line)}`)
  }
}

async function runUsage(at: string, args: string[], { connectionString }: TestDatabase): Promise<void> {
  const env = { DATABASE_URL: connectionString }
  const { code, stdout, stderr } =
    args[0] === 'worker' ? await runWorker(args, env) : await runCommand(args, { env })
  assert.equal(code, 0, `${at}: workspace-usage ${args.join(' ')}\n${stdout}${stderr}`)
}

async function runWorker(args: string[], env: Record<string, string>): Promise<CommandResult> {
  const worker = startCommand(args, { env })
  await worker.prints(/worker started/)
  worker.emit('SIGTERM', 'SIGTERM')
  return await worker.ended
}

/** Does not run npm, because that would install this package or run all the tests. */
function assertNpmKnows(at: string, [command, ...args]: string[]): void {
  const known = (script: string | undefined) => script !== undefined && MANIFEST.scripts[script] !== undefined
  const isOurs = (name: string) => name === MANIFEST.name || MANIFEST.dependencies[name] !== undefined
  const fits: Record<string, () => boolean> = {
    ci: () => args.length === 0,
    install: () => args.every(isOurs),
    start: () => known('start'),
    test: () => known('test'),
    run: () => known(args.find(arg => !arg.startsWith('-'))),
  }
  assert.ok(fits[command!]?.(), `${at}: npm ${[command, ...args].join(' ')}`)
}

/** A database with short periods, and with the workspace that the pages use. */
async function createDatabase(): Promise<TestDatabase> {
  const database = await createTestDatabase()
  await setPeriodLength(database.pool, 0.1)
  await database.pool.query('INSERT INTO workspaces (id) VALUES ($1)', [WORKSPACE])
  return database
}

async function dropRole(role: string): Promise<void> {
  const { pool } = await createTestDatabase()
  await pool.query(`DROP ROLE ${role}`)
}

function withOwnNames(code: string): string {
  return code.replaceAll(/\w+/g, word => OWN_NAMES.get(word) ?? word)
}

function suffix(): string {
  return randomBytes(4).toString('hex')
}
