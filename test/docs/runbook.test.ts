import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { ROOT } from '../support/checkout.ts'

const read = (file: string) => readFileSync(path.join(ROOT, file), 'utf8')

test('the runbook has a paragraph on each code of the verdict, and on no other', () => {
  const type = /export type ProblemCode =([\s\S]*?)\n\n/.exec(read('src/activity/problem.ts'))![1]!
  const codes = [...type.matchAll(/\| '([a-z-]+)'/g)].map(match => match[1]!)
  const headings = [...read('docs/runbook.md').matchAll(/^## (.+)$/gm)].map(match => match[1]!)
  assert.ok(codes.length > 10, 'the codes are found')
  assert.deepEqual(headings.toSorted(), codes.toSorted())
})
