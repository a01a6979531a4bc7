/**
 * Makes a text safe for a terminal. Any marker can choose a source. Characters that are invisible, move the cursor,
 * start a line or reverse the direction are shown as code points.
 */
export function printable(text: string): string {
  // Most ids are of these characters only. That is seen in a tenth of the time.
  if (/^[\x20-\x7e]*$/.test(text)) return text
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, character =>
    // The zero-width joiner is kept, because it only joins emoji.
    character === '\u200d' ? character : `\\u{${character.codePointAt(0)!.toString(16)}}`,
  )
}
