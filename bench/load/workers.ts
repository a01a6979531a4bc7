import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'

/** How long nothing may happen before we give up. Workers start a drain at a full minute at the latest. */
const PATIENCE_MS = 100_000

/** How workers drained a backlog. */
export interface Worked {
  /** Marks a second, from the end of the first flush to that of the last. */
  rate: number
  /** What each worker flushed. */
  shares: number[]
}

/** Lets workers with their defaults drain a backlog of so many marks, as programs of their own, and stops them. */
export async function drainByWorkers(
  program: string,
  connectionString: string,
  { workers, marks }: { workers: number; marks: number },
): Promise<Worked> {
  const env = { ...process.env, DATABASE_URL: connectionString }
  const shares = new Array<number>(workers).fill(0)
  const ends: { at: number; flushed: number }[] = []
  const children: ChildProcess[] = []
  try {
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(reject, PATIENCE_MS, new Error('no worker flushed')).unref()
      for (let worker = 0; worker < workers; worker++) {
        const child = spawn(process.execPath, [program, 'worker'], {
          env,
          stdio: ['ignore', 'pipe', 'inherit'],
        })
        children.push(child)
        child.once('exit', code => reject(new Error(`a worker ended with ${code}`)))
        createInterface(child.stdout).on('line', line => {
          const { flushed, time } = JSON.parse(line) as { flushed?: number; time: number }
          if (flushed === undefined) return
          timer.refresh()
          ends.push({ at: time, flushed })
          shares[worker]! += flushed
          if (shares.reduce((sum, share) => sum + share) >= marks) resolve()
        })
      }
    })
  } finally {
    await Promise.all(children.map(stop))
  }
  // Lines of two workers may come in another order than their flushes.
  const [first, ...rest] = ends.toSorted((one, other) => one.at - other.at)
  const ms = Math.max(1, rest.at(-1)!.at - first!.at)
  return { rate: ((marks - first!.flushed) / ms) * 1_000, shares }
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null) return
  const exit = once(child, 'exit')
  child.kill('SIGTERM')
  await exit
}
