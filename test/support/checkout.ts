import { readFileSync } from 'node:fs'
import path from 'node:path'

/** The directory of this checkout: the package's root. */
export const ROOT = path.join(import.meta.dirname, '../..')

/** The manifest of this package. */
export const MANIFEST = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')) as {
  name: string
  version: string
  homepage: string
  engines: { node: string }
  exports: Record<string, string | { types: string; default: string }>
  scripts: Record<string, string>
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
}

/** The compiler of the script `tsc`. */
export const COMPILER = path.join(ROOT, 'node_modules/typescript-7/bin/tsc')
