import assert from 'node:assert/strict'
import { test } from 'node:test'
import pg from 'pg'
import { mostUnderWay } from '../../src/mark/most-under-way.ts'

test('a tracker has two statements under way where a pool allows two', () => {
  const most = (options: object) => mostUnderWay(new pg.Pool(options))
  assert.equal(most({}), 2)
  assert.equal(most({ max: 1 }), 1)
  assert.equal(most({ max: 2 }), 2)
  // node-postgres takes the text of a variable too.
  assert.equal(most({ max: '1' }), 1)
  assert.equal(most({ max: '20' }), 2)
  assert.equal(mostUnderWay(new pg.Client()), 1)
})
