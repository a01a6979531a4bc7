import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { createPool } from '../../src/database/pool.ts'
import { InvalidOptionError } from '../../src/errors.ts'
import { createTestDatabase } from '../support/database.ts'

const SECRET = 'not-for-any-log'
const at = (rest: string) => `postgres://app:${SECRET}@${rest}`

const refused: [how: string, connectionString: string, allowed: RegExp][] = [
  [
    'with several hosts',
    at('one,two/database'),
    /^one host and one port\. The node-postgres driver connects/,
  ],
  ['with several hosts and ports', at('one:5432,two:5433/database'), /^one host and one port/],
  ['with several hosts in a parameter', at('/database?host=one,two'), /^one host and one port/],
  ['with several ports in a parameter', at('one/database?port=1,2'), /^one host and one port/],
  ['with a port that is no number', at('host:five/database'), /^a port from 1 to 65535$/],
  ['with port 0', at('host:0/database'), /^a port from 1 to 65535$/],
  ['with a port that is too large', at('host:65536/database'), /^a port from 1 to 65535$/],
  ['with such a port in a parameter', at('host/database?port=99999'), /^a port from 1 to 65535$/],
  [
    'with an sslmode that does not exist',
    at('host/database?sslmode=on'),
    /^as its parameter "sslmode" one of disable, prefer, require, .*, which "on" is not$/,
  ],
  [
    'with the sslmode of libpq that node-postgres does not know',
    at('host/database?sslmode=allow'),
    /"sslmode" one of/,
  ],
  [
    'with ssl=false, which node-postgres takes for true',
    at('host/database?ssl=false'),
    /^as its parameter "ssl" one of true, 1, 0/,
  ],
  [
    'with an sslrootcert that points nowhere',
    at('host/database?sslmode=verify-full&sslrootcert=/no/such.crt'),
    /^as its parameter "sslrootcert" the path of a file that can be read, which "\/no\/such\.crt" is not \(ENOENT\)$/,
  ],
  ['with an sslcert that points nowhere', at('host/database?sslcert=/no/such.crt'), /"sslcert" the path/],
  ['with an sslkey that points nowhere', at('host/database?sslkey=/no/such.key'), /"sslkey" the path/],
  [
    'with a misspelt parameter',
    at('host/database?sslmod=require'),
    /^no parameter "sslmod" \(did you mean "sslmode"\?\)\. The parameters that count are host, port, /,
  ],
  [
    'with a parameter that nobody knows',
    at('host/database?schema=app'),
    /^no parameter "schema" \(leave it out\)/,
  ],
  ['of another protocol', `mysql://app:${SECRET}@host/database`, /^a URL such as postgres:/],
  ['that is empty', '', /^a URL such as postgres:/],
  ["in libpq's other form", `host=host user=app password=${SECRET}`, /^a URL such as postgres:/],
  [
    'with a slash in the password',
    `postgres://app:x/${SECRET}@host/database`,
    /^a URL in which special characters/,
  ],
  ['with a question mark in the password', `postgres://app:x?y?${SECRET}@host/db`, /^a URL in which special/],
  ['with a hash in the password', `postgres://app:x#${SECRET}@host/db`, /^a URL in which special characters/],
  [
    'with an ampersand behind a question mark in the password',
    `postgres://app:?a&${SECRET}@host/db`,
    /^a URL in which/,
  ],
]
for (const [how, connectionString, allowed] of refused) {
  test(`a connection string ${how} is refused with what is allowed there, and is not shown`, () => {
    assert.throws(
      () => createPool(connectionString, { applicationName: 'test', max: 1 }),
      (error: InvalidOptionError) => {
        assert.ok(error instanceof InvalidOptionError)
        assert.match(error.allowed, allowed)
        assert.ok(!inspect(error, { depth: null, showHidden: true }).includes(SECRET), inspect(error))
        return true
      },
    )
  })
}

const accepted = [
  at('host/database'),
  'postgresql://host',
  'postgres:///database?host=/var/run/postgresql&user=a@b',
  'postgres://user@%2Fvar%2Frun/database',
  'socket:/var/run?db=database',
  '/var/run/postgresql database',
  at('[::1]:5432/database?sslmode=disable&application_name=x&options=-c%20search_path%3Dapp'),
  // What hosted databases show.
  at(
    'host/database?sslmode=verify-full&channel_binding=require&connect_timeout=10&target_session_attrs=read-write',
  ),
  `postgres://app:p%40%2F%3F%23%25${SECRET}@host/database`,
  `postgres://app:p@${SECRET}@host/database`,
]
for (const connectionString of accepted) {
  test(`a connection string is accepted: ${connectionString.replace(SECRET, '…')}`, async () => {
    await createPool(connectionString, { applicationName: 'test', max: 1 }).end()
  })
}

test('a connection string with parameters of libpq that node-postgres ignores connects', async () => {
  const { connectionString } = await createTestDatabase()
  const url = `${connectionString}?target_session_attrs=read-write&connect_timeout=3`
  const pool = createPool(url, { applicationName: 'test', max: 1 })
  assert.equal((await pool.query("SELECT 'here' AS at")).rows.length, 1)
  await pool.end()
})
