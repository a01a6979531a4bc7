import assert from 'node:assert/strict'
import { test } from 'node:test'
import { count, describeFlush } from '../../../src/cli/output/count.ts'
import { printable } from '../../../src/cli/output/printable.ts'
import { formatAge, formatTime } from '../../../src/cli/output/time.ts'

test('ages are told in the largest unit that fits, rounded down', () => {
  const ages = {
    '0 s': -1,
    '59 s': 59.9,
    '1 min': 60,
    '59 min': 3_599,
    '1 h': 3_600,
    '23 h': 86_399,
    '400 d': 34_560_000,
  }
  for (const [text, seconds] of Object.entries(ages)) assert.equal(formatAge(seconds), text)
})

test('what could move a cursor is shown by its code point, and emoji are left whole', () => {
  const shown = {
    'a\tb\u0007': 'a\\u{9}b\\u{7}',
    '\u202eabc\u2028': '\\u{202e}abc\\u{2028}',
    '🧑‍💻 é': '🧑‍💻 é',
  }
  for (const [text, expected] of Object.entries(shown)) assert.equal(printable(text), expected)
})

test('one is singular, and every other number is plural', () => {
  const counts = [0, 1, 2].map(number => count(number, 'workspace'))
  assert.deepEqual(counts, ['0 workspaces', '1 workspace', '2 workspaces'])
  assert.deepEqual([count(1, 'flush', 'flushes'), count(2, 'flush', 'flushes')], ['1 flush', '2 flushes'])
})

test('what a flush did is told in the words of its JSON', () => {
  assert.equal(
    describeFlush({ flushed: 1, updated: 0, unknown: 1, held: 2 }),
    '1 mark flushed, 0 workspaces updated, 1 unknown, 2 held',
  )
})

test('times are told to the second, with their zone', () => {
  assert.equal(formatTime(new Date('2026-03-01T12:00:00.999Z')), '2026-03-01 12:00:00Z')
})
