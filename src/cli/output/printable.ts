/**
 * Text that whoever may mark has chosen, made safe for a terminal: what moves the cursor, starts a line,
 * reverses the direction or can't be seen is shown by its code point.
 */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, character =>
    // Joins emoji, and does nothing else.
    character === '\u200d' ? character : `\\u{${character.codePointAt(0)!.toString(16)}}`,
  )
}
