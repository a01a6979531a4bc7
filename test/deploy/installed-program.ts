import { spawn, spawnSync } from 'node:child_process'
import { buffer } from 'node:stream/consumers'

/** How a program ended, and what it printed on both outputs. */
export interface Finished {
  code: number | null
  output: string
}

/** The reason to skip a test that needs a program, or false if the program is installed. */
export function missing(program: string): string | false {
  const { error } = spawnSync(program, ['--version'], { stdio: 'ignore' })
  return error === undefined ? false : `${program} is not installed`
}

/** Runs an installed program to its end. */
export async function runInstalled(program: string, args: string[], cwd: string): Promise<Finished> {
  const child = spawn(program, args, { cwd, stdio: ['ignore', 'pipe', 'pipe'] })
  const [stdout, stderr, code] = await Promise.all([
    buffer(child.stdout),
    buffer(child.stderr),
    new Promise<number | null>((resolve, reject) => {
      child.once('error', reject)
      child.once('close', resolve)
    }),
  ])
  return { code, output: `${stdout}${stderr}` }
}
