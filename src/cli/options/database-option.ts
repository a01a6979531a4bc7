import type { Option } from 'commander'
import { createPool, type OwnedPool } from '../../database/pool.ts'
import { VariableOption } from './variable-option.ts'

/** What every command that talks to the database has. */
export interface DatabaseOptions {
  databaseUrl: string
}

/** `--database-url`; mandatory, or from `DATABASE_URL`. */
export function databaseOption(): Option {
  return new VariableOption('-d, --database-url <url>', 'PostgreSQL connection string', 'DATABASE_URL', {
    needed: true,
  })
}

/** Runs with a pool on the database that was asked for, and ends the pool whatever happens. */
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
