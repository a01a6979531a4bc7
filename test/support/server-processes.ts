import { readdirSync, readFileSync, rmSync } from 'node:fs'
import path from 'node:path'
import type { EmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { until } from './poll.ts'

/** The process that started all others of a server. */
export function postmasterOf({ dataDirectory }: EmbeddedPostgres): number {
  return Number(readFileSync(path.join(dataDirectory, 'postmaster.pid'), 'utf8').split('\n')[0])
}

/** All processes of a server, the postmaster first. Linux only. */
export function processesOf(server: EmbeddedPostgres): number[] {
  const postmaster = postmasterOf(server)
  return [postmaster, ...childrenOf(postmaster)]
}

function childrenOf(parent: number): number[] {
  const all = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  return all.filter(name => parentOf(name) === parent).map(Number)
}

function parentOf(pid: string): number | undefined {
  try {
    // Its name is in parentheses, and may hold spaces.
    return Number(
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /s, '')
        .split(' ')[1],
    )
  } catch {
    // It has ended meanwhile.
    return undefined
  }
}

/** Sends SIGKILL to the postmaster, and waits until all processes of the server have ended. */
export async function killPostmaster(server: EmbeddedPostgres): Promise<void> {
  const processes = processesOf(server)
  process.kill(processes[0]!, 'SIGKILL')
  await until('the processes of the server have ended', () => !processes.some(isAlive), {
    timeoutMs: 30_000,
  })
  // If nobody asks for the end of the postmaster, as in some containers, the next one takes it for alive.
  rmSync(path.join(server.dataDirectory, 'postmaster.pid'))
}

function isAlive(pid: number): boolean {
  try {
    // A process that has ended is a zombie until somebody asks for its end.
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}

/** Stops all processes of a server where they stand, until the function that it returns is called. */
export function freeze(server: EmbeddedPostgres): () => void {
  const [postmaster, ...others] = processesOf(server) as [number, ...number[]]
  // First the one that starts others.
  process.kill(postmaster, 'SIGSTOP')
  const frozen = new Set([postmaster, ...others, ...childrenOf(postmaster)])
  for (const pid of frozen) signal(pid, 'SIGSTOP')
  return () => {
    for (const pid of frozen) signal(pid, 'SIGCONT')
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name)
  } catch {
    // It has ended meanwhile.
  }
}
