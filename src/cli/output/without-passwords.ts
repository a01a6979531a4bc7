/**
 * Blots out the password of every URL in a text that a command is about to print: an argument in the wrong place is
 * repeated in the error, and it may be a connection string.
 */
export function withoutPasswords(text: string): string {
  return text.replaceAll(/(\/\/[^\s/:@]*:)[^\s@]*@/g, '$1***@')
}
