/** A text as a field of CSV, as RFC 4180 has it: in quotes if it has a comma, a quote or a line break. */
export function csvField(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text
}
