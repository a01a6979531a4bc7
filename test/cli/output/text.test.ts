import assert from 'node:assert/strict'
import { test } from 'node:test'
import { count, describeFlush } from '../../../src/cli/output/count.ts'
import { printable } from '../../../src/cli/output/printable.ts'
import { formatAge, formatTime } from '../../../src/cli/output/time.ts'

test('an age is printed in the largest unit that fits, rounded down', () => {
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

test('a character that could move the cursor is printed as its code point, and an emoji is printed whole', () => {
  const shown = {
    'a\tb\u0007': 'a\\u{9}b\\u{7}',
    '\u202eabc\u2028': '\\u{202e}abc\\u{2028}',
    '🧑‍💻 é': '🧑‍💻 é',
  }
  for (const [text, expected] of Object.entries(shown)) assert.equal(printable(text), expected)
})

test('a count of one is printed in the singular, and every other count in the plural', () => {
  const counts = [0, 1, 2].map(number => count(number, 'workspace'))
  assert.deepEqual(counts, ['0 workspaces', '1 workspace', '2 workspaces'])
  assert.deepEqual([count(1, 'flush', 'flushes'), count(2, 'flush', 'flushes')], ['1 flush', '2 flushes'])
})

test('the result of a flush is printed in the words of its JSON', () => {
  assert.equal(
    describeFlush({ flushed: 1, updated: 0, unknown: 1, held: 2 }),
    '1 mark flushed, 0 workspaces updated, 1 unknown, 2 held',
  )
})

test('a time is printed to the second, with its zone', () => {
  assert.equal(formatTime(new Date('2026-03-01T12:00:00.999Z')), '2026-03-01 12:00:00Z')
})
