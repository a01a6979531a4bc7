import type { Option } from 'commander'
import { switchOption } from './variable-option.ts'

/** The option of every command that can print JSON. */
export interface JsonOptions {
  json: boolean
}

/** `--json`: one JSON document on standard output instead of text. */
export function jsonOption(): Option {
  return switchOption('--json', 'print JSON', 'WORKSPACE_USAGE_JSON')
}
