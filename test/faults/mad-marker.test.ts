/** The same with ten million ids: long/mad-marker.test.ts. */

import { test } from 'node:test'
import { createTestDatabase } from '../support/database.ts'
import { createLoginRole } from '../support/roles.ts'
import { testServer } from '../support/test-server.ts'
import { markMadly } from './mad-marker.ts'

test('a hundred thousand marks of ids that do not exist keep nobody else waiting', async t => {
  const mad = await createLoginRole(await testServer(), 'mad')
  await markMadly(
    mad,
    await createTestDatabase(),
    { ids: 100_000, unknownAfterSeconds: 2, flushedWithinSeconds: 40, timeoutMs: 60_000 },
    t,
  )
})
