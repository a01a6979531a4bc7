import { execFile } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { findProgram } from './programs.ts'

/** One run of pgbench. */
export interface PgbenchRun {
  connectionString: string
  /** What each transaction runs, in the language of pgbench. */
  script: string
  /** Transactions of each connection. */
  transactions: number
  /** Default: 8. */
  connections?: number
}

/**
 * Runs a script with prepared statements, over 8 connections by default.
 *
 * @returns transactions a second, without the time to connect
 */
export async function pgbench(run: PgbenchRun): Promise<number> {
  const { connectionString, script, transactions, connections = 8 } = run
  const directory = await mkdtemp(path.join(tmpdir(), 'pgbench-'))
  try {
    const file = path.join(directory, 'script.sql')
    await writeFile(file, script)
    // The password goes by the environment, because everybody on the machine sees the arguments.
    const url = new URL(connectionString)
    const password = decodeURIComponent(url.password)
    url.password = ''
    const numbers = ['-c', connections, '-j', Math.min(2, connections), '-t', transactions].map(String)
    const { stdout } = await promisify(execFile)(
      findProgram('pgbench')!,
      ['-n', '-M', 'prepared', ...numbers, '-f', file, url.href],
      { env: { ...process.env, PGPASSWORD: password, PGAPPNAME: 'bench' } },
    )
    const rate = /tps = ([\d.]+)/.exec(stdout)?.[1]
    if (rate === undefined) throw new Error(`pgbench told no rate: ${stdout}`)
    return Number(rate)
  } finally {
    await rm(directory, { recursive: true })
  }
}
