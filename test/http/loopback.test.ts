import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isLoopback, namesLoopback } from '../../src/http/loopback.ts'

test('only addresses that never leave this machine are loopback addresses', () => {
  for (const address of ['127.0.0.1', '127.255.0.9', '::1', '0:0:0:0:0:0:0:1', '::ffff:127.0.0.1']) {
    assert.equal(isLoopback(address), true, address)
  }
  for (const address of [
    '0.0.0.0',
    '::',
    '10.0.0.1',
    '128.0.0.1',
    '::2',
    '::ffff:10.0.0.1',
    'localhost',
    '',
  ]) {
    assert.equal(isLoopback(address), false, address)
  }
})

test('a Host header names this machine only by a loopback name or address, with any port', () => {
  for (const host of ['localhost', 'LOCALHOST:9464', '127.0.0.1', '127.0.0.1:9464', '[::1]:9464', '[::1]']) {
    assert.equal(namesLoopback(host), true, host)
  }
  const foreign = [
    'evil.example',
    'localhost.evil.example',
    '127.0.0.1.evil.example',
    'evil.example:9464',
    '',
    'a b',
  ]
  for (const host of [...foreign, '0.0.0.0:9464', 'user@evil.example', 'localhost@evil.example', undefined]) {
    assert.equal(namesLoopback(host), false, host)
  }
})
