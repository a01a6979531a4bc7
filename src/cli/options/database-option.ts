import type { Option } from 'commander'
import { onCoordinator } from '../../database/distributed.ts'
import { inSchema } from '../../database/in-schema.ts'
import { createPool, type OwnedPool } from '../../database/pool.ts'
import { A_SCHEMA } from '../../database/schema-path.ts'
import { textAllowedBy } from './parsers.ts'
import { type Environment, VariableOption } from './variable-option.ts'

/** The options of every command that uses the database. */
export interface DatabaseOptions {
  databaseUrl: string
  schema?: string
}

/** `--database-url`, and the schema of the tables there. */
export function databaseOptions(): Option[] {
  return [databaseOption(), schemaOption()]
}

/** It is required, and may come from `DATABASE_URL` or from the variables of libpq. */
function databaseOption(): Option {
  return new VariableOption('-d, --database-url <url>', 'PostgreSQL connection string', 'DATABASE_URL', {
    needed: true,
    substitute: {
      variables: "PostgreSQL's own PGHOST or PGDATABASE (with PGPORT, PGUSER, PGPASSWORD)",
      read: urlOfVariables,
    },
  })
}

function schemaOption(): Option {
  return new VariableOption(
    '--schema <name>',
    'the schema of the tables; default: search_path leads to them',
    'WORKSPACE_USAGE_SCHEMA',
  ).argParser(textAllowedBy(A_SCHEMA))
}

/**
 * Makes a URL from the variables that `psql` reads. What is not set is left to node-postgres's defaults. PGUSER alone does
 * not tell which database is meant.
 */
function urlOfVariables({ PGHOST, PGPORT, PGDATABASE, PGUSER, PGPASSWORD }: Environment): string | undefined {
  if (!PGHOST && !PGDATABASE) return undefined
  const url = new URL('postgres://localhost')
  // As parameters, because a host may be the path of a socket.
  if (PGHOST) url.searchParams.set('host', PGHOST)
  if (PGPORT) url.searchParams.set('port', PGPORT)
  if (PGUSER) url.username = encodeURIComponent(PGUSER)
  if (PGPASSWORD) url.password = encodeURIComponent(PGPASSWORD)
  if (PGDATABASE) url.pathname = encodeURIComponent(PGDATABASE)
  return url.href
}

/** Runs something with a pool for the database, and ends the pool in every case. */
export async function withPool<Result>(
  { databaseUrl, schema }: DatabaseOptions,
  run: (pool: OwnedPool) => Promise<Result>,
): Promise<Result> {
  const pool = createPool(databaseUrl, { applicationName: 'workspace-usage', max: 2 })
  try {
    const placed = schema === undefined ? pool : inSchema(pool, schema)
    return await onCoordinator(placed, () => run(placed))
  } finally {
    await pool.end()
  }
}
