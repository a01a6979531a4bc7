import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { atEnd } from '../support/at-end.ts'
import { ROOT } from '../support/checkout.ts'
import { runProgram } from '../support/process.ts'

async function generateApiPage(): Promise<string> {
  const directory = await mkdtemp(path.join(tmpdir(), 'workspace-usage-api-'))
  atEnd(() => rm(directory, { recursive: true, force: true }))
  const typedoc = path.join(ROOT, 'node_modules/typedoc/bin/typedoc')
  const { code, stdout, stderr } = await runProgram(typedoc, ['--out', directory])
  assert.equal(code, 0, `typedoc failed, or warned of a comment:\n${stdout}${stderr}`)
  return await readFile(path.join(directory, 'api.md'), 'utf8')
}

test('docs/api.md is up to date with the doc comments', async () => {
  const generated = await generateApiPage()
  const committed = await readFile(path.join(ROOT, 'docs/api.md'), 'utf8')
  assert.ok(
    generated === committed,
    `docs/api.md is stale: run "npm run docs:api"\n${firstDifference(committed, generated)}`,
  )
  for (const name of ['UsageTracker', 'markUsage()', 'startFlushWorker()', 'InvalidOptionError']) {
    assert.ok(generated.includes(`\n### ${name}\n`), `${name} has a heading`)
  }
})

test('docs/api.md contains no path of the machine that generated it, and no revision', async () => {
  const page = await readFile(path.join(ROOT, 'docs/api.md'), 'utf8')
  assert.doesNotMatch(page, /file:\/\/|\/home\/|\/blob\/|[0-9a-f]{40}/)
  assert.ok(!page.includes(ROOT))
})

function firstDifference(committed: string, generated: string): string {
  const [before, now] = [committed.split('\n'), generated.split('\n')]
  const line = now.findIndex((text, index) => text !== before[index])
  return `line ${line + 1}\n- ${before[line]}\n+ ${now[line]}`
}
