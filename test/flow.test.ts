import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { suite, test } from 'node:test'

const SOURCES = path.join(import.meta.dirname, '../src')

/** What a file names after `from`, or imports for its effects or later; types included, for they are knowledge too. */
function importsOf(file: string): string[] {
  const text = readFileSync(path.join(SOURCES, file), 'utf8')
  const specifiers = text.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*'([^']+)'/g)
  return [...specifiers].map(([, specifier]) =>
    specifier!.startsWith('.') ? path.join(path.dirname(file), specifier!) : specifier!,
  )
}

/** Everything that `file` needs, directly or through others: our files, relative to src, and packages. */
function reachableFrom(file: string, seen = new Set<string>()): Set<string> {
  for (const name of importsOf(file)) {
    if (seen.has(name)) continue
    seen.add(name)
    if (name.endsWith('.ts')) reachableFrom(name, seen)
  }
  return seen
}

suite('use flows one way', () => {
  test('marking knows neither the flush nor the job', () => {
    for (const file of ['mark.ts', 'tracker.ts']) {
      const reachable = reachableFrom(file)
      assert.ok(reachable.has('connection.ts'), file)
      for (const name of ['flush.ts', 'drain.ts', 'job.ts', 'pg-boss']) {
        assert.ok(!reachable.has(name), `${file} reaches ${name}`)
      }
    }
  })

  test('the flush knows neither marking nor the job', () => {
    const reachable = reachableFrom('flush.ts')
    assert.ok(reachable.has('connection.ts'))
    for (const name of ['mark.ts', 'tracker.ts', 'job.ts', 'pg-boss']) {
      assert.ok(!reachable.has(name), `flush.ts reaches ${name}`)
    }
  })

  test('only the job knows pg-boss', () => {
    const files = globSync('**/*.ts', { cwd: SOURCES })
    assert.deepEqual(
      files.filter(file => importsOf(file).includes('pg-boss')),
      ['job.ts'],
    )
  })
})
