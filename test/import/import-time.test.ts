import assert from 'node:assert/strict'
import { test } from 'node:test'
import { importTime } from '../../src/import/import-time.ts'

test('a time of an import is ISO 8601 with a zone, to the microsecond, or a Date', () => {
  const times = {
    '2026-03-01T12:00:00Z': '2026-03-01T12:00:00.000000Z',
    '2026-03-01 12:00z': '2026-03-01T12:00:00.000000Z',
    '2026-03-01 12:00:00.123456789+01': '2026-03-01T12:00:00.123456+01:00',
    '2026-03-01t12:00:00,5-0330': '2026-03-01T12:00:00.500000-03:30',
    ' 2024-02-29 23:59:59 +05:45 ': '2024-02-29T23:59:59.000000+05:45',
  }
  for (const [text, expected] of Object.entries(times)) assert.deepEqual(importTime(text), { text: expected })
  assert.deepEqual(importTime(new Date(1_772_366_400_000)), { text: '2026-03-01T12:00:00.000Z' })
})

test('a time without a zone, a number, and what does not exist are refused with the reason', () => {
  const refusals = {
    '2026-03-01T12:00:00':
      /^the time "2026-03-01T12:00:00" has no zone\. Write ISO 8601 with a zone, such as /,
    '2026-03-01': /^"2026-03-01" is not a time\. /,
    '1772366400': /^the time "1772366400" is only a number\. /,
    '1772366400.5': / is only a number\. /,
    yesterday: /^"yesterday" is not a time\. /,
    '': /^there is no time\. /,
    '2026-02-30T12:00:00Z': /^the time "2026-02-30T12:00:00Z" does not exist$/,
    '2026-03-01T24:00:00Z': / does not exist$/,
    '2026-03-01T12:00:00+16:00': / does not exist$/,
    "2026-03-01T12:00:00Z'; DROP": / is not a time\. /,
  }
  for (const [text, expected] of Object.entries(refusals)) {
    const { refusal = '', never } = importTime(text) as { refusal?: string; never?: boolean }
    assert.match(refusal, expected)
    assert.equal(never, undefined)
  }
  for (const value of [undefined, null, 5, new Date(Number.NaN)]) assert.ok('refusal' in importTime(value))
})

test('what hosts write for never is told as such', () => {
  for (const text of [
    'infinity',
    '-Infinity',
    '0001-01-01T00:00:00Z',
    '1970-01-01 00:00:00+00',
    '1970-01-02T00:30:00+01:00',
  ])
    assert.equal((importTime(text) as { never?: boolean }).never, true, text)
  assert.ok('text' in importTime('1970-01-02T00:00:00Z'))
})
