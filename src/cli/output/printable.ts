/**
 * Makes a text safe for a terminal. Any marker can choose a source. Characters that are invisible, move the cursor,
 * start a line or reverse the direction are shown as code points. An empty text is shown as a shell writes it.
 */
export function printable(text: string): string {
  if (text === '') return "''"
  // Most ids are of these characters only. That is seen in a tenth of the time.
  if (/^[\x20-\x7e]*$/.test(text)) return text
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, character =>
    // The zero-width joiner is kept, because it only joins emoji.
    character === '\u200d' ? character : `\\u{${character.codePointAt(0)!.toString(16)}}`,
  )
}
