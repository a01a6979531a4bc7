import { readFileSync } from 'node:fs'
import type pg from 'pg'

/** Ticks of the kernel's clock in a second, as /proc counts the time of a process. */
const TICKS_PER_SECOND = 100

/** Where the WAL of the server ends, in bytes. The difference of two calls is what all sessions wrote between. */
export async function walPosition(pool: Pick<pg.Pool, 'query'>): Promise<number> {
  const { rows } = await pool.query("SELECT (pg_current_wal_insert_lsn() - '0/0')::text AS bytes")
  return Number(rows[0].bytes)
}

/**
 * User and system time of a process so far, in seconds. NaN if it does not run on this machine.
 */
export function cpuSeconds(pid: number): number {
  try {
    // The second field is a name in parentheses, which may hold spaces.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
  } catch {
    return Number.NaN
  }
}

/** CPU time of all backends of this database so far, in seconds. They must live until the second reading. */
export async function backendCpuSeconds(pool: Pick<pg.Pool, 'query'>): Promise<number> {
  const { rows } = await pool.query<{ pid: number }>(
    `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'`,
  )
  return rows.reduce((sum, { pid }) => sum + cpuSeconds(pid), 0)
}
