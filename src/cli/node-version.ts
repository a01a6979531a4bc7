// This file and main.ts must load on every Node that knows ES modules: no newer syntax, no packages.

/** The oldest Node that this package runs on, as in `engines` of package.json. */
export const OLDEST_NODE = '22.12'

/** The part of `process` that is used here. */
interface NodeProcess {
  readonly versions: { readonly node: string }
  readonly stderr: { write(text: string): unknown }
}

/** Returns true, after an error message, if this Node is too old. */
export function refusesNode({ versions, stderr }: NodeProcess): boolean {
  const [major, minor] = versions.node.split('.').map(Number)
  const [oldestMajor, oldestMinor] = OLDEST_NODE.split('.').map(Number)
  if (major! > oldestMajor! || (major === oldestMajor && minor! >= oldestMinor!)) return false
  stderr.write(`workspace-usage needs Node ${OLDEST_NODE} or newer; this is ${versions.node}.\n`)
  return true
}
