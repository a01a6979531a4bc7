import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isOutage } from '../../src/mark/outage.ts'

const outages: [string, object][] = [
  ['a connection that PostgreSQL cut', { code: '08006' }],
  ['a deadlock', { code: '40P01' }],
  ['a serialization failure', { code: '40001' }],
  ['too many connections', { code: '53300' }],
  ['a full disk', { code: '53100' }],
  ['a statement timeout', { code: '57014' }],
  ['a server that is shutting down', { code: '57P01' }],
  ['a server that is starting up', { code: '57P03' }],
  ['a lock timeout', { code: '55P03' }],
  ['a server that can only be read', { code: '25006' }],
  ['a database that is not there yet', { code: '3D000' }],
  ['a table that is not there yet', { code: '42P01' }],
  ['a function that is not there yet', { code: '42883' }],
  ['a connection refused', { code: 'ECONNREFUSED', syscall: 'connect' }],
  ['a broken pipe, whose code has the form of a SQLSTATE,', { code: 'EPIPE', syscall: 'write' }],
  ['a timeout of the pool, which has no code,', {}],
]
const refusals: [string, object][] = [
  ['a missing privilege', { code: '42501' }],
  ['a wrong password', { code: '28P01' }],
  ['a trigger that raises', { code: 'P0001' }],
  ['a constraint of the host', { code: '23514' }],
  ['a statement that this server does not know', { code: '42601' }],
]

for (const [name, fields] of outages) {
  test(`a tracker treats ${name} as an outage`, () =>
    assert.equal(isOutage(Object.assign(new Error(), fields)), true))
}
for (const [name, fields] of refusals) {
  test(`a tracker treats ${name} as a refusal`, () =>
    assert.equal(isOutage(Object.assign(new Error(), fields)), false))
}
