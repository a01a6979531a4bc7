import { execFile } from 'node:child_process'
import path from 'node:path'
import { promisify } from 'node:util'

const ROOT = path.join(import.meta.dirname, '../..')

/** Builds the package, as it is published. Returns the file of its program. */
export async function builtProgram(): Promise<string> {
  await promisify(execFile)('npm', ['run', '--silent', 'build'], { cwd: ROOT })
  return path.join(ROOT, 'dist/src/cli/main.js')
}
