import assert from 'node:assert/strict'
import { test } from 'node:test'
import { MEASURES } from '../../bench/measures/list.ts'
import { runSmall, TIMED_MEASURES } from '../bench/run-small.ts'

test('the measures that start processes run over a table of 1,000 workspaces, and fail at nothing', async t => {
  const names = MEASURES.filter(({ name }) => TIMED_MEASURES.includes(name)).map(({ name }) => name)
  assert.deepEqual(names.toSorted(), TIMED_MEASURES.toSorted())
  const { code } = await runSmall(t, names)
  assert.equal(code, 0)
})
