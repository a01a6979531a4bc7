/**
 * Blots out the password of every URL in a text that is about to be shown. An error repeats the value that was wrong,
 * and a connection string may stand in the wrong place.
 */
export function withoutPasswords(text: string): string {
  return text.replaceAll(/(\/\/[^\s/:@]*:)[^\s@]*@/g, '$1***@')
}
