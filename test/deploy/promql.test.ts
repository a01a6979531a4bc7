import assert from 'node:assert/strict'
import { test } from 'node:test'
import { selectorsOf } from './promql.ts'

test('the metrics, matchers and kept labels of an expression are read', () => {
  const expression =
    'histogram_quantile(0.95, sum by (le, source) (rate(a_bucket{job="x",state!~"b|c"}[5m]))) > 2 and max(b) offset 10m'
  assert.deepEqual(selectorsOf(expression), [
    {
      metric: 'a_bucket',
      matchers: [
        { label: 'job', operator: '=', value: 'x' },
        { label: 'state', operator: '!~', value: 'b|c' },
      ],
      grouping: ['le', 'source'],
    },
    { metric: 'b', matchers: [], grouping: [] },
  ])
})

test('an aggregation inside another one keeps its own labels, and must keep those of the outer one', () => {
  const [selector] = selectorsOf('sum by (state) (max by (namespace, state) (pending))')
  assert.deepEqual(selector!.grouping, ['namespace', 'state'])
  assert.throws(() => selectorsOf('sum by (state) (max by (namespace) (pending))'), /drops state/)
})

test('names of functions, durations and operators are no metrics', () => {
  assert.deepEqual(
    selectorsOf('time() - (last_over_time(a[1d]) unless b offset 5m) * 60').map(({ metric }) => metric),
    ['a', 'b'],
  )
})

test('what the reader does not know is refused', () => {
  assert.throws(() => selectorsOf('sum without (instance) (a)'), /found without where by is needed/)
  assert.throws(() => selectorsOf("a{b='c'}"), /can not read/)
})
