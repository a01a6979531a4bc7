import { Option } from 'commander'

/** What every command that prints figures has. */
export interface JsonOptions {
  json: boolean
}

/** `--json`: one JSON document on standard output instead of text. */
export function jsonOption(): Option {
  return new Option('--json', 'print JSON').env('WORKSPACE_USAGE_JSON').default(false).preset(true)
}

/** Prints one JSON document, with times in ISO 8601. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, 2)}\n`)
}
