import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openLoop } from '../../bench/load/open-loop.ts'

test('a request that is sent late counts from the moment at which it was due', async () => {
  const end = new AbortController()
  let sent = 0
  const send = async () => {
    sent++
    if (sent === 2) return end.abort()
    for (const until = performance.now() + 60; performance.now() < until; );
  }
  const { requests, p50 } = await openLoop(1_000, send, end.signal)
  assert.equal(requests, 2)
  assert.ok(p50 >= 58, `the faster one took ${p50} ms`)
})

test('no request waits for the answer to another one', async () => {
  const end = new AbortController()
  const gate = Promise.withResolvers<void>()
  let sent = 0
  const send = () => {
    sent++
    // By then the first request was due 49 ms ago, because one is due in each millisecond.
    if (sent === 50) {
      end.abort()
      gate.resolve()
    }
    return gate.promise
  }
  const { requests, p50, max } = await openLoop(1_000, send, end.signal)
  assert.equal(requests, 50)
  assert.ok(max >= 49, `the longest took ${max} ms`)
  assert.ok(p50 >= 24, `the one in the middle took ${p50} ms`)
})

test('a request that fails ends the loop with its error', async () => {
  const end = new AbortController()
  const send = () => {
    end.abort()
    return Promise.reject(new Error('no answer'))
  }
  await assert.rejects(openLoop(1_000, send, end.signal), /no answer/)
})
