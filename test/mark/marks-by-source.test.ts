import assert from 'node:assert/strict'
import { test } from 'node:test'
import { countMarks, marksBySource, metricSource } from '../../src/mark/marks-by-source.ts'

test('the metrics of a process know 1,000 sources, and count the marks of all further ones as of the source other', () => {
  for (let source = 1; source <= 1_010; source++) countMarks(`source ${source}`, 2, 1)
  const marks = marksBySource()
  assert.equal(marks.size, 1_001)
  assert.equal(marks.get('source 1000')?.marked, 2)
  assert.equal(marks.get('source 1001'), undefined)
  assert.deepEqual(marks.get('other'), {
    marked: 20,
    deduplicated: 10,
    stored: 10,
    dropped: 0,
    retries: 0,
    pending: 0,
  })
  assert.deepEqual([metricSource('source 1'), metricSource('source 1010')], ['source 1', 'other'])
})
