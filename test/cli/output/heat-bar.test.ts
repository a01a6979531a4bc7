import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ASCII,
  BLOCKS,
  bar,
  cellsOfADay,
  formatMinutes,
  hours,
  lastDay,
  wholeDay,
} from '../../../src/cli/output/heat-bar.ts'

const SLOT_MS = 300_000
const at = (time: string) => Date.parse(`2026-03-01T${time}Z`)
/** The slots that begin from a time to another one. */
function slots(from: string, until: string): number[] {
  const [first, end] = [at(from) / SLOT_MS, at(until) / SLOT_MS]
  return Array.from({ length: end - first }, (_, n) => first + n)
}

test('a bar shades each cell by the share of its slots that was used, and only an unbroken use is full', () => {
  const used = new Set([
    ...slots('00:00', '01:00'),
    ...slots('01:00', '01:25'),
    ...slots('01:30', '01:45'),
    ...slots('02:00', '02:05'),
  ])
  const day = wholeDay(at('00:00'), 48)
  const drawn = bar(used, day, at('23:59'), BLOCKS)
  assert.equal(drawn, `██▓▒░${'·'.repeat(43)}`)
  assert.equal(bar(used, day, at('23:59'), ASCII), `##x+-${'.'.repeat(43)}`)
})

test('the last cell of the last 24 hours has the present in it, and a slot that is not over counts only if it is used', () => {
  const now = at('12:11') + 1
  const cells = lastDay(now, 72)
  assert.equal(cells.from, at('12:20') - 86_400_000)
  const before = new Set(slots('11:40', '12:10'))
  assert.equal(bar(before, cells, now, BLOCKS).slice(-3), '·██')
  assert.equal(bar(new Set([...before, at('12:10') / SLOT_MS]), cells, now, BLOCKS).slice(-3), '·██')
  assert.equal(bar(new Set(slots('11:40', '12:05')), cells, now, BLOCKS).slice(-3), '·█▒')
  assert.equal(lastDay(at('12:00'), 24).from, at('12:00') - 86_400_000)
})

test('what is ahead is blank', () => {
  assert.equal(bar(new Set(), wholeDay(at('00:00'), 24), at('20:00'), BLOCKS), `${'·'.repeat(20)}    `)
})

test('the hours stand above the cells in which they begin, whatever the width is', () => {
  for (const width of [24, 30, 48, 71, 72, 100, 144, 500]) {
    const cells = lastDay(at('12:11'), cellsOfADay(width))
    const axis = hours(cells)
    assert.ok(cells.count <= Math.max(24, width) && axis.length === cells.count)
    for (const [, hour] of axis.matchAll(/(\d\d)/g)) {
      const start = cells.from + axis.indexOf(hour!) * cells.ms
      assert.equal(new Date(start).toISOString().slice(11, 16), `${hour}:00`)
    }
  }
  assert.equal(hours(wholeDay(at('00:00'), 24)), '00 03 06 09 12 15 18 21 ')
})

test('minutes are printed in hours and minutes', () => {
  assert.deepEqual([0, 55, 60, 125].map(formatMinutes), ['0 min', '55 min', '1 h', '2 h 5 min'])
})
