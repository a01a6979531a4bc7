import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Edge, EVERYTHING, type Look, type Place, Walk } from '../../src/flush/walk.ts'

const at = (second: number) => `2026-01-01T00:00:${String(second).padStart(2, '0')}.000000Z`
const place = (second: number): Place => [at(second), 'an id of any type', 'ssh']
const edge = (second: number, range = 0): Edge => ({ place: place(second), range })
const from = (second: number) => ({ from: [at(second), null, ''] as const, until: null })

function seen(second: number, others: Partial<Look> = {}): Look {
  return { at: at(second), server: '1', dead: 1_000_000, markers: [], noted: null, ...others }
}

const marker = (transaction: string, prepared = false) => ({ transaction, prepared })

test('the first walk is over everything, and after it only what comes later is left', () => {
  const walk = new Walk(seen(10))
  assert.deepEqual(walk.ranges, [EVERYTHING])
  const noted = walk.noteAfter({ oldestFirst: false, edge: null })
  assert.deepEqual(noted.ranges, [from(10)])
  assert.deepEqual(new Walk(seen(20, { noted })).ranges, [from(10)])
})

test('batches from both ends leave the middle', () => {
  const first = new Walk(seen(30)).noteAfter({ oldestFirst: false, edge: edge(20) })
  assert.deepEqual(first.ranges, [{ ...EVERYTHING, until: place(20) }, from(30)])

  const second = new Walk(seen(31, { noted: first })).noteAfter({ oldestFirst: true, edge: edge(10) })
  assert.deepEqual(second.ranges, [{ from: place(10), until: place(20) }, from(30)])

  const third = new Walk(seen(32, { noted: second })).noteAfter({ oldestFirst: false, edge: edge(15) })
  assert.deepEqual(third.ranges, [{ from: place(10), until: place(15) }, from(32)])

  const last = new Walk(seen(33, { noted: third })).noteAfter({ oldestFirst: false, edge: null })
  assert.deepEqual(last.ranges, [from(33)])
})

test('a batch that ends in the newest marks leaves those below it and the older range', () => {
  const older = new Walk(seen(30)).noteAfter({ oldestFirst: false, edge: edge(20) })
  const newer = new Walk(seen(50, { noted: older })).noteAfter({ oldestFirst: false, edge: edge(40, 1) })
  assert.deepEqual(newer.ranges, [
    { ...EVERYTHING, until: place(20) },
    { from: from(30).from, until: place(40) },
    from(50),
  ])
  const nearly = new Walk(seen(50, { noted: older })).noteAfter({ oldestFirst: false, edge: edge(50, 1) })
  assert.deepEqual(nearly.ranges, [{ ...EVERYTHING, until: place(20) }, from(30)])
})

test('what an open transaction may have stored since the look before is walked over again once it has ended', () => {
  const before = new Walk(seen(10)).noteAfter({ oldestFirst: false, edge: null })
  const open = new Walk(seen(20, { noted: before, markers: [marker('3/7')] })).noteAfter({
    oldestFirst: false,
    edge: null,
  })
  assert.deepEqual(open.ranges, [from(20)])
  const still = new Walk(seen(21, { noted: open, markers: [marker('3/7')] }))
  assert.deepEqual(still.ranges, [from(20)])
  const ended = new Walk(seen(21, { noted: open, markers: [marker('3/8')] }))
  assert.deepEqual(ended.ranges, [from(10)])
})

test('a transaction that was open at the first walk, or is prepared, or stays open for long, may have stored anything', () => {
  const first = new Walk(seen(10, { markers: [marker('3/7')] })).noteAfter({ oldestFirst: false, edge: null })
  assert.deepEqual(new Walk(seen(11, { noted: first })).ranges, [EVERYTHING])

  const before = new Walk(seen(10)).noteAfter({ oldestFirst: false, edge: null })
  const noteOf = (second: number, name: ReturnType<typeof marker>, noted = before) =>
    new Walk(seen(second, { noted, markers: [name] })).noteAfter({ oldestFirst: false, edge: null })
  const prepared = noteOf(20, marker('-1/99', true))
  assert.deepEqual(new Walk(seen(21, { noted: prepared })).ranges, [EVERYTHING])

  const long = noteOf(23, marker('3/7'), noteOf(20, marker('3/7')))
  assert.deepEqual(new Walk(seen(24, { noted: long })).ranges, [EVERYTHING])
})

test('a note of another server, or of a clock that was set back, is of no use', () => {
  const noted = new Walk(seen(10)).noteAfter({ oldestFirst: false, edge: null })
  assert.deepEqual(new Walk(seen(20, { noted, server: '2' })).ranges, [EVERYTHING])
  assert.deepEqual(new Walk(seen(9, { noted })).ranges, [EVERYTHING])
})

test('the fewer dead rows, the sooner everything is walked over again; never among too many', () => {
  const noted = new Walk(seen(0)).noteAfter({ oldestFirst: false, edge: null })
  const walked = (second: number, dead: number) => new Walk(seen(second, { noted, dead })).ranges
  assert.deepEqual(walked(5, 60_000), [EVERYTHING])
  assert.deepEqual(walked(4, 60_000), [from(0)])
  assert.deepEqual(walked(59, 6_000_000), [from(0)])
  const old = { ...noted, walkedAt: '2025-01-01T00:00:00.000000Z' }
  assert.deepEqual(new Walk(seen(5, { noted: old, dead: 6_000_000 })).ranges, [EVERYTHING])
  assert.deepEqual(new Walk(seen(5, { noted: old, dead: 60_000_000 })).ranges, [from(0)])
})

test('there are never more than eight ranges, and together they leave out nothing', () => {
  let noted = new Walk(seen(0)).noteAfter({ oldestFirst: false, edge: null })
  for (let second = 2; second < 58; second += 3) {
    const walk = new Walk(seen(second, { noted, dead: 60_000_000 }))
    noted = walk.noteAfter({ oldestFirst: false, edge: edge(second - 1, walk.ranges.length - 1) })
  }
  assert.ok(noted.ranges.length <= 8)
  assert.deepEqual(noted.ranges[0]!.from, from(0).from)
  assert.equal(noted.ranges.at(-1)!.until, null)
})

test('batches within one period leave what is beyond them, whatever the order of their ids is', () => {
  const at20 = (id: string): Place => [at(20), id, 'ssh']
  const first = new Walk(seen(30)).noteAfter({ oldestFirst: true, edge: { place: at20('z'), range: 0 } })
  assert.deepEqual(first.ranges, [{ from: at20('z'), until: null }])
  const second = new Walk(seen(31, { noted: first })).noteAfter({
    oldestFirst: true,
    edge: { place: at20('Ä'), range: 0 },
  })
  assert.deepEqual(second.ranges, [{ from: at20('Ä'), until: null }])
  const third = new Walk(seen(32, { noted: second })).noteAfter({
    oldestFirst: false,
    edge: { place: at20('b'), range: 0 },
  })
  assert.deepEqual(third.ranges, [{ from: at20('Ä'), until: at20('b') }, from(32)])
})
