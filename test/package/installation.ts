import { cp, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, sep } from 'node:path'
import { atEnd } from '../support/at-end.ts'
import { ROOT } from '../support/checkout.ts'
import { CommandError, command } from './command.ts'

/** The package as it would be published. */
export interface PackedPackage {
  tarball: string
  /** Paths of all it holds, sorted. */
  files: string[]
}

/** An empty directory, removed at the file's end. */
export async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'workspace-usage-package-'))
  atEnd(() => rm(directory, { recursive: true, force: true }))
  return directory
}

/** Packs a copy of the tree, because packing builds `dist/`, and no test should do that in the tree itself. */
export async function packCopy(directory: string): Promise<PackedPackage> {
  const copy = join(directory, 'copy')
  const left = ['node_modules', 'dist', '.git'].map(name => join(ROOT, name))
  await cp(ROOT, copy, { recursive: true, filter: source => !left.includes(source) })
  await symlink(join(ROOT, 'node_modules'), join(copy, 'node_modules'), 'junction')
  const { stdout } = await command('npm', ['pack', '--json', '--silent', `--pack-destination=${directory}`], {
    cwd: copy,
  })
  const report = JSON.parse(stdout)
  // A list of packages. Since npm 12 it is an object of them.
  const [packed] = Object.values(report) as [{ filename: string; files: { path: string }[] }]
  return {
    tarball: join(directory, packed.filename),
    files: packed.files.map(({ path }) => path.split(sep).join('/')).sort(),
  }
}

/**
 * Makes a project with this manifest and copies of the files of `sources`, and installs its dependencies.
 * @returns the reason why nothing was installed, if the registry can't be reached or lacks something `optional`; else
 *   undefined
 * @throws CommandError if it fails for any other reason
 */
export async function installProject(
  directory: string,
  manifest: object,
  { sources, optional = false }: { sources?: string; optional?: boolean } = {},
): Promise<string | undefined> {
  await mkdir(directory)
  if (sources !== undefined) await cp(sources, directory, { recursive: true })
  const text = JSON.stringify({ private: true, type: 'module', ...manifest })
  await writeFile(join(directory, 'package.json'), text)
  try {
    await command('npm', INSTALL, { cwd: directory })
    return undefined
  } catch (error) {
    const code = error instanceof CommandError ? /\bcode (E\w+)/.exec(error.stderr)?.[1] : undefined
    if (code && UNREACHABLE.includes(code)) return `the package registry can't be reached (${code})`
    if (code && optional && LACKING.includes(code)) return `the package registry lacks it (${code})`
    throw error
  }
}

/** The packages, sorted by name, that an install of this project without dev dependencies contains. */
export async function runtimePackages(directory: string): Promise<string[]> {
  const lock = await readFile(join(directory, 'node_modules/.package-lock.json'), 'utf8')
  const { packages } = JSON.parse(lock) as { packages: Record<string, { dev?: boolean }> }
  return Object.entries(packages)
    .filter(([, { dev }]) => dev !== true)
    .map(([path]) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length))
    .sort()
}

const INSTALL = [
  'install',
  '--prefer-offline',
  '--no-audit',
  '--no-fund',
  '--fetch-retries=1',
  '--fetch-retry-mintimeout=1000',
]

/** npm's codes for a registry that can't be reached. */
const UNREACHABLE = [
  'ENOTFOUND',
  'EAI_AGAIN',
  'ECONNREFUSED',
  'ECONNRESET',
  'ETIMEDOUT',
  'ENETUNREACH',
  'EHOSTUNREACH',
  'ENOTCACHED',
]

/** npm's codes for a package, or a version of it for this platform, that does not exist. */
const LACKING = ['E404', 'ETARGET', 'EBADPLATFORM']
