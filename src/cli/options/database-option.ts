import type { Option } from 'commander'
import { createPool, type OwnedPool } from '../../database/pool.ts'
import { VariableOption } from './variable-option.ts'

/** The options of every command that uses the database. */
export interface DatabaseOptions {
  databaseUrl: string
}

/** `--database-url`. It is required, and may come from `DATABASE_URL`. */
export function databaseOption(): Option {
  return new VariableOption('-d, --database-url <url>', 'PostgreSQL connection string', 'DATABASE_URL', {
    needed: true,
  })
}

/** Runs something with a pool for the database, and ends the pool in every case. */
export async function withPool<Result>(
  { databaseUrl }: DatabaseOptions,
  run: (pool: OwnedPool) => Promise<Result>,
): Promise<Result> {
  const pool = createPool(databaseUrl, { applicationName: 'workspace-usage', max: 2 })
  try {
    return await run(pool)
  } finally {
    await pool.end()
  }
}
