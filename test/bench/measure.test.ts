import assert from 'node:assert/strict'
import { test } from 'node:test'
import { alternate, atLeast, atMost, inTurn, isMet, row, summary } from '../../bench/measure.ts'

test('each subject runs once in a round, and the order is reversed after each round', async () => {
  const ran: string[] = []
  const run = (name: string) => async () => ran.push(name)
  await alternate(3, { a: run('a'), b: run('b'), c: run('c') })
  assert.deepEqual(ran, ['a', 'b', 'c', 'c', 'b', 'a', 'a', 'b', 'c'])
})

test('rounds of warming up run the same subjects and do not count', async () => {
  let value = 0
  const found = await alternate(2, { a: async () => value++ }, { warmUps: 3 })
  assert.deepEqual(found, { a: { median: 3.5, min: 3, max: 4, runs: 2 } })
})

test('a subject that fails ends the rounds with its error', async () => {
  const ran: string[] = []
  const failing = inTurn(2, ['a', 'b'], async name => {
    ran.push(name)
    if (name === 'b') throw new Error('b is broken')
  })
  await assert.rejects(failing, /b is broken/)
  assert.deepEqual(ran, ['a', 'b'])
})

test('the median of an odd number of values is the one in the middle, whatever their order', () => {
  assert.deepEqual(summary([9, 1, 100]), { median: 9, min: 1, max: 100, runs: 3 })
})

test('the median of an even number of values is the mean of the two in the middle', () => {
  assert.deepEqual(summary([4, 1, 2, 10]), { median: 3, min: 1, max: 10, runs: 4 })
})

test('no values have no median', () => {
  assert.throws(() => summary([]), RangeError)
})

test('a target is met at its limit, and missed beyond it', () => {
  assert.deepEqual(
    [39, 40, 41].map(value => isMet(atMost('bytes', value, 40))),
    [true, true, false],
  )
  assert.deepEqual(
    [0.84, 0.85, 0.86].map(value => isMet(atLeast('share', value, 0.85))),
    [false, true, true],
  )
})

test('a target whose value is no number is missed', () => {
  assert.equal(isMet(atMost('bytes', Number.NaN, 40)), false)
  assert.equal(isMet(atLeast('bytes', Number.NaN, 40)), false)
})

test('a row has a note only if one was given', () => {
  const values = { median: 2, min: 1, max: 3, runs: 3 }
  assert.deepEqual(row('mark', 'ms', values), { label: 'mark', unit: 'ms', ...values })
  assert.equal(row('mark', 'ms', values, 'cold').note, 'cold')
})
