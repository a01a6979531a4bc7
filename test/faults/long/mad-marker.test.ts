/** Set MAD_IDS to another number of ids to try. */

import { test } from 'node:test'
import { createTestDatabase } from '../../support/database.ts'
import { createLoginRole } from '../../support/roles.ts'
import { testServer } from '../../support/test-server.ts'
import { markMadly } from '../mad-marker.ts'

const IDS = Number(process.env.MAD_IDS ?? 10_000_000)

test('ten million marks of ids that do not exist keep nobody else waiting', async t => {
  const mad = await createLoginRole(await testServer(), 'mad')
  await markMadly(
    mad,
    await createTestDatabase(),
    { ids: IDS, unknownAfterSeconds: 30, flushedWithinSeconds: 30, timeoutMs: 540_000 },
    t,
  )
})
