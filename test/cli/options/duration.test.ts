import assert from 'node:assert/strict'
import { test } from 'node:test'
import { durationAllowedBy } from '../../../src/cli/options/duration.ts'
import { numberWithin, oneOf, whatever } from '../../../src/options.ts'

const parse = durationAllowedBy(whatever('anything', () => true))

test('a duration is a whole number of one unit', () => {
  const seconds = {
    '45s': 45,
    '90m': 5_400,
    '12h': 43_200,
    '30d': 2_592_000,
    '2w': 1_209_600,
    ' 1d ': 86_400,
  }
  for (const [text, value] of Object.entries(seconds)) assert.equal(parse(text), value)
  for (const text of ['', '30', 'd', '0d', '-1d', '1.5h', '1D', '1d2h', '1 d', '1M', '9999999999s']) {
    assert.throws(
      () => parse(text),
      { message: /^Allowed: a whole number and a unit, such as 45s, 90m/ },
      text,
    )
  }
})

test('a duration is checked by the rule of the function that takes it, and refused in the units of a duration', () => {
  const withinADay = durationAllowedBy(numberWithin(60, 86_400, 'seconds'))
  assert.equal(withinADay('1d'), 86_400)
  for (const text of ['59s', '2d']) {
    assert.throws(() => withinADay(text), { message: 'Allowed: 1m to 1d.' }, text)
  }
  const odd = durationAllowedBy(oneOf('nothing'))
  assert.throws(() => odd('1d'), { message: 'Allowed: nothing.' })
})
