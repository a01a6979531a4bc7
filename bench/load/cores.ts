import { execFile, execFileSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { promisify } from 'node:util'
import pg from 'pg'

const run = promisify(execFile)

/** Which core each part of a measure has. */
export interface Cores extends AsyncDisposable {
  /** Undefined if nothing could be pinned. */
  application?: number
  drainer?: number
  /** One sentence for the report. */
  said: string
}

/**
 * Pins the server to one core, and says which cores the load is to use. So neither takes time from the other. The server
 * may use all cores again when this is disposed.
 *
 * The client of a drain needs little time: it sends a statement for each batch. It shares the core of the load if there
 * is no third one. On the core of the server it would take time from what is measured.
 */
export async function pinServer(connectionString: string): Promise<Cores> {
  const cores = await ownCores()
  const server = await postmasterOf(connectionString)
  if (cores === undefined || server === undefined) {
    const reason = cores === undefined ? 'there is no taskset or only one core' : 'the server is elsewhere'
    return { said: `Nothing was pinned to a core: ${reason}.`, [Symbol.asyncDispose]: async () => {} }
  }
  const [first, second, third = second] = cores
  await pinAll(server, String(first))
  const drainer =
    third === second ? 'with the client of the drain' : 'and the client of the drain has a third'
  return {
    application: second!,
    drainer: third!,
    said: `The server has a core of its own; the load has another one, ${drainer}.`,
    [Symbol.asyncDispose]: () => pinAll(server, cores.join(',')),
  }
}

/** The cores that this process may use, if it can pin others to them. */
async function ownCores(): Promise<number[] | undefined> {
  try {
    const { stdout } = await run('taskset', ['--cpu-list', '--pid', String(process.pid)])
    const cores = stdout
      .slice(stdout.lastIndexOf(':') + 1)
      .trim()
      .split(',')
      .flatMap(range => {
        const [from, to = from] = range.split('-').map(Number)
        return Array.from({ length: to! - from! + 1 }, (_, index) => from! + index)
      })
    return cores.length > 1 ? cores : undefined
  } catch {
    return undefined
  }
}

/** The process of the server, if it runs on this machine. */
async function postmasterOf(connectionString: string): Promise<number | undefined> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    const { rows } = await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
    const backend = statOf(rows[0]!.pid)
    return backend?.name === 'postgres' ? backend.parent : undefined
  } finally {
    await client.end()
  }
}

/** Processes that the server starts later inherit the core. */
async function pinAll(postmaster: number, list: string): Promise<void> {
  const children = readdirSync('/proc')
    .filter(name => /^\d+$/.test(name))
    .map(Number)
    .filter(pid => statOf(pid)?.parent === postmaster)
  // A child may end meanwhile. The server itself must be there.
  execFileSync('taskset', ['--cpu-list', '--pid', list, String(postmaster)], { stdio: 'ignore' })
  await Promise.allSettled(children.map(pid => run('taskset', ['--cpu-list', '--pid', list, String(pid)])))
}

/** The name is in parentheses, and may hold spaces. */
function statOf(pid: number): { name: string; parent: number } | undefined {
  try {
    const [, name, parent] = readFileSync(`/proc/${pid}/stat`, 'utf8').match(/\((.*)\) \S (\d+)/s)!
    return { name: name!, parent: Number(parent) }
  } catch {
    return undefined
  }
}
