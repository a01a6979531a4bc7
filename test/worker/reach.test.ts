import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Reach } from '../../src/worker/reach.ts'
import { collectLog } from '../support/log-lines.ts'

const BROKEN = new Error('Connection terminated unexpectedly')

/** A reach that was started, and what it tells. */
function startedReach() {
  const log = collectLog()
  const reach = new Reach(log.logger)
  reach.started()
  return {
    reach,
    told: () => log.lines.map(({ message }) => message.replace(/^the database is |;.*/g, '')),
  }
}

test('connections that break one after the other are one loss, and one return', () => {
  const { reach, told } = startedReach()
  const [first, second, third] = [reach.ask(), reach.ask(), reach.ask()]
  reach.failed(first, BROKEN)
  reach.failed(second, BROKEN)
  reach.answered(reach.ask())
  reach.failed(third, BROKEN)
  assert.deepEqual(told(), ['out of reach', 'within reach again'])
  assert.equal(reach.away, false)
})

test('an answer that was on its way when a connection broke is no return', () => {
  const { reach, told } = startedReach()
  const [first, second] = [reach.ask(), reach.ask()]
  reach.failed(first, BROKEN)
  reach.answered(second)
  assert.deepEqual(told(), ['out of reach'])
  assert.equal(reach.away, true)
})

test('each later loss is told again', () => {
  const { reach, told } = startedReach()
  for (let outage = 0; outage < 2; outage++) {
    reach.lost(reach.ask(), BROKEN)
    reach.answered(reach.ask())
  }
  assert.deepEqual(told(), ['out of reach', 'within reach again', 'out of reach', 'within reach again'])
})

test('an error of a statement, and a failure before the start, tell nothing', () => {
  const { reach, told } = startedReach()
  reach.failed(reach.ask(), Object.assign(new Error('no such table'), { code: '42P01' }))
  const log = collectLog()
  const starting = new Reach(log.logger)
  starting.lost(starting.ask(), BROKEN)
  assert.deepEqual([...told(), ...log.lines], [])
})
