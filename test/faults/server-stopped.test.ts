import { test } from 'node:test'
import { standsStill } from './server-stopped.ts'

test('a server that stands still for ten seconds under load loses no mark, and all goes on by itself', async t => {
  await standsStill(t, 10)
})
