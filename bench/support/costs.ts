import { readdirSync, readFileSync } from 'node:fs'
import type pg from 'pg'

/** Ticks of the kernel's clock in a second, as /proc counts the time of a process. */
const TICKS_PER_SECOND = 100

/** Where the WAL of the server ends, in bytes. The difference of two calls is what all sessions wrote between. */
export async function walPosition(pool: Pick<pg.Pool, 'query'>): Promise<number> {
  const { rows } = await pool.query("SELECT (pg_current_wal_insert_lsn() - '0/0')::text AS bytes")
  return Number(rows[0].bytes)
}

/** CPU time of a process so far, in seconds. NaN if it does not run on this machine. */
export function cpuSeconds(pid: number): number {
  try {
    // In nanoseconds, while the times in `stat` are hundredths of a second.
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e9
  } catch {
    return statOf(pid)?.own ?? Number.NaN
  }
}

/** What /proc tells of a process: its parent, its own CPU time, and that of its children that have ended. */
function statOf(pid: number | string): { parent: number; own: number; ended: number } | undefined {
  try {
    // The second field is a name in parentheses, which may hold spaces.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
      .map(Number)
    const seconds = (from: number) => (fields[from]! + fields[from + 1]!) / TICKS_PER_SECOND
    return { parent: fields[1]!, own: seconds(11), ended: seconds(13) }
  } catch {
    return undefined
  }
}

/** CPU time of all backends of this database so far, in seconds. They must live until the second reading. */
export async function backendCpuSeconds(pool: Pick<pg.Pool, 'query'>): Promise<number> {
  const { rows } = await pool.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'`,
  )
  return rows.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0)
}

/**
 * CPU time of the whole server so far, in seconds: of all its processes, also of those that have ended. NaN if it does
 * not run on this machine.
 */
export async function serverCpuSeconds(pool: Pick<pg.Pool, 'query'>): Promise<number> {
  const { rows } = await pool.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')
  const postmaster = statOf(rows[0]!.pid)?.parent
  if (postmaster === undefined) return Number.NaN
  const processes = readdirSync('/proc').filter(name => /^\d+$/.test(name))
  const living = processes.map(statOf).filter(stat => stat?.parent === postmaster)
  return living.reduce((sum, stat) => sum + stat!.own, statOf(postmaster)?.ended ?? Number.NaN)
}
