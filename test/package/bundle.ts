import { sep } from 'node:path'
import { build } from 'esbuild'

/** A program with all that it loads, as one file. */
export interface Bundle {
  /** Its size, not minified. */
  bytes: number
  /** The packages that it contains files of, sorted. */
  packages: string[]
}

/** Bundles a program that stands in that directory, for Node. `pg` stays outside. */
export async function bundle(program: string, directory: string): Promise<Bundle> {
  const { metafile } = await build({
    stdin: { contents: program, resolveDir: directory },
    absWorkingDir: directory,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node22',
    external: ['pg'],
    metafile: true,
    write: false,
    outfile: 'bundle.js',
    logLevel: 'silent',
  })
  const [output] = Object.values(metafile.outputs)
  return { bytes: output!.bytes, packages: packagesOf(Object.keys(metafile.inputs)) }
}

/** The packages that these files belong to, sorted. A file that belongs to none is left out. */
export function packagesOf(files: readonly string[]): string[] {
  const names = files.flatMap(file => {
    const [, ...below] = file.split(sep).join('/').split('node_modules/')
    const parts = below.at(-1)?.split('/') ?? []
    return parts[0]?.startsWith('@') ? parts.slice(0, 2).join('/') : parts.slice(0, 1)
  })
  return [...new Set(names)].sort()
}
