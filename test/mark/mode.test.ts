import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Mode, modeAfter, sends, takesMarks } from '../../src/mark/mode.ts'

const MODES: Mode[] = ['idle', 'sending', 'pausing', 'closing', 'closed']

test('a closing tracker can only become closed, and a closed tracker stays closed', () => {
  for (const wanted of MODES) {
    assert.equal(modeAfter('closing', wanted), wanted === 'closed' ? 'closed' : 'closing')
    assert.equal(modeAfter('closed', wanted), 'closed')
  }
})

test('a tracker can begin to close in every earlier mode, and cannot be closed before it was closing', () => {
  for (const mode of ['idle', 'sending', 'pausing'] satisfies Mode[]) {
    assert.equal(modeAfter(mode, 'closing'), 'closing')
    assert.equal(modeAfter(mode, 'closed'), mode)
  }
})

test('a closing tracker still sends but takes no marks, and a closed tracker does neither', () => {
  assert.deepEqual(MODES.filter(takesMarks), ['idle', 'sending', 'pausing'])
  assert.deepEqual(MODES.filter(sends), ['idle', 'sending', 'pausing', 'closing'])
})
