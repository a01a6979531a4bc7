import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Mode, modeAfter, sends, takesMarks } from '../../src/mark/mode.ts'

const MODES: Mode[] = ['idle', 'sending', 'pausing', 'closing', 'closed']

test('a tracker that is closing does nothing else but close, and a closed one stays closed', () => {
  for (const wanted of MODES) {
    assert.equal(modeAfter('closing', wanted), wanted === 'closed' ? 'closed' : 'closing')
    assert.equal(modeAfter('closed', wanted), 'closed')
  }
})

test('a tracker can begin to close in each mode before, and is never closed without', () => {
  for (const mode of ['idle', 'sending', 'pausing'] satisfies Mode[]) {
    assert.equal(modeAfter(mode, 'closing'), 'closing')
    assert.equal(modeAfter(mode, 'closed'), mode)
  }
})

test('a closing tracker sends and takes no marks, and a closed one does neither', () => {
  assert.deepEqual(MODES.filter(takesMarks), ['idle', 'sending', 'pausing'])
  assert.deepEqual(MODES.filter(sends), ['idle', 'sending', 'pausing', 'closing'])
})
