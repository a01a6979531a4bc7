import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import { printable } from '../src/cli/output/printable.ts'
import { shellWord } from '../src/shell-word.ts'

const TEXTS = [
  'plain-1.x',
  "o'brien",
  ' ',
  '-x',
  '!bang\\',
  'a $HOME `id` "q" *',
  '日本語 👩‍💻',
  'line\nfeed',
  'tab\there',
  'two  and   three spaces',
  ' at the ends ',
  'zero\u200bwidth',
  'no-break\u00a0space',
  "it's\r\n\\ all\u001b[31m of \u2028 it",
]

for (const text of TEXTS) {
  test(`the shell word of ${JSON.stringify(text)} is the text again when it was printed in one line and pasted`, () => {
    const word = shellWord(text)
    assert.equal(
      printable(word.replaceAll(/\s+/g, ' ')).replaceAll('\u200d', ''),
      word.replaceAll('\u200d', ''),
    )
    for (const LC_ALL of ['C', 'C.UTF-8']) {
      const pasted = execFileSync('bash', ['-c', `printf %s ${word}`], { env: { LC_ALL } })
      assert.equal(pasted.toString(), text)
    }
  })
}
