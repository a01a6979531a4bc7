import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'

const ROOT = path.join(import.meta.dirname, '../..')

let built: Promise<string> | undefined

/** Builds the package once, as it is published. Returns the file of its program. */
export function builtProgram(): Promise<string> {
  built ??= build()
  return built
}

async function build(): Promise<string> {
  await promisify(execFile)('npm', ['run', '--silent', 'build'], { cwd: ROOT })
  return path.join(ROOT, 'dist/src/cli/main.js')
}
