/**
 * Hides the password of every URL in a text. An error quotes the wrong value, and that may be a connection string that
 * somebody passed in the wrong place.
 */
export function withoutPasswords(text: string): string {
  return text.replaceAll(/(\/\/[^\s/:@]*:)[^\s@]*@/g, '$1***@')
}
