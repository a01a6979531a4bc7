/** What a line of text would lose or change: control and invisible characters, and spaces in a row. */
const FRAGILE = /[\p{C}\p{Zl}\p{Zp}]|[^\S ]|(?<= ) /gu

/**
 * Writes a text as one word of a shell, to paste. The word is one line and has no character that a terminal would not
 * show. So a text with such characters is written as `$'…'` with escapes, which bash, ksh and zsh know.
 */
export function shellWord(text: string): string {
  if (/^[\w.-]+$/.test(text)) return text
  if (text.search(FRAGILE) === -1) return `'${text.replaceAll("'", "'\\''")}'`
  const plain = text.replaceAll(/[\\']/g, String.raw`\$&`)
  return `$'${plain.replaceAll(FRAGILE, bytesOf)}'`
}

/** The bytes of a character, which mean the same in every locale. */
function bytesOf(character: string): string {
  return Array.from(Buffer.from(character), byte => String.raw`\x${byte.toString(16).padStart(2, '0')}`).join(
    '',
  )
}
