/*
 * For text that can have no parameters, such as what begins a transaction. It loads nothing, because a marking service
 * needs it.
 */

/** A name as an identifier of SQL. */
export function quoteIdentifier(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/** A text as a literal of SQL, whatever `standard_conforming_strings` is. */
export function quoteLiteral(text: string): string {
  const quoted = text.replaceAll("'", "''")
  return text.includes('\\') ? ` E'${quoted.replaceAll('\\', '\\\\')}'` : `'${quoted}'`
}
