import { execFile } from 'node:child_process'
import { cpSync, globSync, mkdirSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { ROOT } from '../support/checkout.ts'

/** An instruction of the Dockerfile: `keyword` in capitals, and what follows it. */
export interface Instruction {
  keyword: string
  rest: string
}

/** The instructions of the Dockerfile, in order. Comments are left out, and continued lines are one. */
export function readDockerfile(): Instruction[] {
  return readFileSync(path.join(ROOT, 'Dockerfile'), 'utf8')
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\\\n\s*/g, '')
    .split('\n')
    .filter(line => line !== '')
    .map(line => {
      const [keyword, ...rest] = line.split(' ')
      return { keyword: keyword!, rest: rest.join(' ') }
    })
}

/** The files and folders that .dockerignore lets into the build, relative to the package's root. */
export function contextOfBuild(): string[] {
  const lines = readFileSync(path.join(ROOT, '.dockerignore'), 'utf8')
    .split('\n')
    .filter(line => line !== '' && !line.startsWith('#'))
  if (lines[0] !== '*') throw new Error('.dockerignore must leave out all that it does not name')
  return lines.slice(1).map(line => {
    if (!/^![\w.-]+$/.test(line)) throw new Error(`.dockerignore: ${line} is no name after a "!"`)
    return line.slice(1)
  })
}

/**
 * Does what the Dockerfile says, in folders instead of images: each stage is a folder below `directory`, and `RUN` runs
 * there with this Node and npm. The base image is left out, and so are the user and the labels.
 * @returns the folder of the last stage that stands for its WORKDIR
 */
export async function followDockerfile(directory: string): Promise<string> {
  const stages = new Map<string, string>()
  let stage = ''
  let workdir = ''
  for (const { keyword, rest } of readDockerfile()) {
    if (keyword === 'FROM') {
      stage = path.join(directory, rest.split(' AS ')[1]!)
      stages.set(path.basename(stage), stage)
    } else if (keyword === 'WORKDIR') {
      workdir = path.join(stage, rest)
      mkdirSync(workdir, { recursive: true })
    } else if (keyword === 'COPY') {
      copy(rest, workdir, stages)
    } else if (keyword === 'RUN') {
      await promisify(execFile)('sh', ['-c', rest], { cwd: workdir, env: environment(), timeout: 90_000 })
    }
  }
  return workdir
}

function copy(rest: string, workdir: string, stages: Map<string, string>): void {
  const words = rest.split(' ')
  const from = words[0]!.startsWith('--from=') ? words.shift()!.slice('--from='.length) : undefined
  const destination = path.join(workdir, words.pop()!)
  for (const word of words) {
    if (from === undefined && !contextOfBuild().includes(word)) {
      throw new Error(`COPY ${word}: .dockerignore leaves it out`)
    }
    const source = from === undefined ? path.join(ROOT, word) : path.join(stages.get(from)!, word)
    // As Docker does it: a folder's content is copied, a file goes into a folder whose name ends with a slash.
    const target = statSync(source).isDirectory() ? destination : path.join(destination, path.basename(word))
    cpSync(source, target, { recursive: true, verbatimSymlinks: true })
  }
}

/** Our own environment without what `npm run` adds, such as this checkout's node_modules/.bin in PATH. */
function environment(): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(
    ([name]) => !name.startsWith('npm_') && name !== 'NODE_OPTIONS',
  )
  const inPath = [path.dirname(process.execPath), process.env.PATH]
  return { ...Object.fromEntries(own), PATH: inPath.join(path.delimiter), npm_config_prefer_offline: 'true' }
}

/** The size of a folder with all that is in it, in MB. */
export function megabytes(directory: string): number {
  const files = globSync('**/*', { cwd: directory, withFileTypes: true }).filter(entry => entry.isFile())
  const bytes = files.map(file => statSync(path.join(file.parentPath, file.name)).size)
  return Math.round(bytes.reduce((sum, size) => sum + size, 0) / 1e6)
}
