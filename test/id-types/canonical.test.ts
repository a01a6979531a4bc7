import assert from 'node:assert/strict'
import { test } from 'node:test'
import { InvalidWorkspaceIdError } from '../../src/errors.ts'
import { canonicalWorkspaceId, type WorkspaceId, type WorkspaceIdType } from '../../src/workspace-id.ts'

const GOOD: [WorkspaceIdType, WorkspaceId, string][] = [
  ['uuid', '0B8F9F4E-2C55-4F11-9D0C-6A1F0C2B7A10', '0b8f9f4e-2c55-4f11-9d0c-6a1f0c2b7a10'],
  ['bigint', '42', '42'],
  ['bigint', 42, '42'],
  ['bigint', -0, '0'],
  ['bigint', Number.MAX_SAFE_INTEGER, '9007199254740991'],
  ['bigint', 9223372036854775807n, '9223372036854775807'],
  ['bigint', '-9223372036854775808', '-9223372036854775808'],
  ['integer', 2147483647, '2147483647'],
  ['integer', '-2147483648', '-2147483648'],
  ['text', ' A ', ' A '],
  ['text', '🦆'.repeat(255), '🦆'.repeat(255)],
]
for (const [type, value, canonical] of GOOD) {
  test(`the ${type} ${JSON.stringify(String(value)).slice(0, 40)} (${typeof value}) has one canonical form`, () => {
    assert.equal(canonicalWorkspaceId(value, type), canonical)
  })
}

const BAD: (readonly [WorkspaceIdType, unknown])[] = [
  ...['9223372036854775808', '-9223372036854775809', '10000000000000000000'].map(
    id => ['bigint', id] as const,
  ),
  ...['', ' 1', '1 ', '+1', '01', '-0', '-', '1.0', '1e3', '0x1', '1_000', '１'].map(
    id => ['bigint', id] as const,
  ),
  ...[2 ** 53, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2n ** 63n, null, undefined, true, {}, ['1']].map(
    id => ['bigint', id] as const,
  ),
  ...['2147483648', '-2147483649', '9999999999999', 2147483648].map(id => ['integer', id] as const),
  ...['', 'a\0b', '\ud800', 'a\udc00', 'x'.repeat(256), '🦆'.repeat(256), 1, 1n, null].map(
    id => ['text', id] as const,
  ),
  ...[1, 1n, '1'].map(id => ['uuid', id] as const),
]
for (const [type, value] of BAD) {
  test(`${String(JSON.stringify(typeof value === 'bigint' ? `${value}n` : value)).slice(0, 40)} (${typeof value}) is no id of type ${type}`, () => {
    assert.throws(
      () => canonicalWorkspaceId(value as WorkspaceId, type),
      error =>
        error instanceof InvalidWorkspaceIdError && error.idType === type && Object.is(error.value, value),
    )
  })
}

test('the error tells what an id of that type is', () => {
  const message = (type: WorkspaceIdType) => new InvalidWorkspaceIdError('x y', type).message
  assert.match(
    message('bigint'),
    /^not a bigint: "x y"\. .* from -9223372036854775808 to 9223372036854775807/,
  )
  assert.match(message('integer'), /^not an integer: "x y"\. .* from -2147483648 to 2147483647/)
  assert.match(message('text'), /^not a text id: "x y"\. .* 1 to 255 characters/)
})
