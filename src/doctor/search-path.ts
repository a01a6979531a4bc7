import type { Connection } from '../database/connection.ts'
import { ask } from './check.ts'

/** The path of a server that sets none. */
const DEFAULT_PATH = '"$user", public'

/** What leads a role to the tables. */
export interface RolePath {
  /** The path that a new session of the role begins with, if its connection string sets none. */
  path: string
  /** The path of this session. */
  session: string
  /** Where this session has it from, as in `pg_settings`. */
  source: string
  /** The schema of the first `pending_usage` in the path of the role. Null if there is none. */
  found: string | null
}

interface PathRow {
  session: string
  source: string
  current: string
  reset: string
  set: string | null
  holding: string
}

/** Reads the paths, and follows the one of the role. */
export async function pathOfRole(db: Connection, role: string): Promise<RolePath> {
  const [row] = await ask<PathRow>(
    db,
    `SELECT s.setting AS session, s.source, s.reset_val AS reset, current_user::text AS current,
      (
        SELECT substr(c.entry, length('search_path=') + 1)
        FROM pg_catalog.pg_db_role_setting d
        CROSS JOIN LATERAL unnest(d.setconfig) AS c (entry)
        LEFT JOIN pg_catalog.pg_roles r ON r.oid = d.setrole
        LEFT JOIN pg_catalog.pg_database b ON b.oid = d.setdatabase
        WHERE c.entry LIKE 'search\\_path=%' AND (d.setrole = 0 OR r.rolname = $1)
          AND (d.setdatabase = 0 OR b.datname = current_database())
        ORDER BY d.setrole <> 0 DESC, d.setdatabase <> 0 DESC LIMIT 1
      ) AS set,
      (
        SELECT coalesce(json_agg(n.nspname), '[]')::text
        FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relname = 'pending_usage' AND c.relpersistence <> 't'
      ) AS holding
    FROM pg_catalog.pg_settings s WHERE s.name = 'search_path'`,
    [role],
  )
  const { session, source, current, reset, set, holding } = row!
  // What a server-wide file says, only a session can tell that has nothing else.
  const shared =
    source === 'default' || source === 'configuration file' || source === 'session' ? session : DEFAULT_PATH
  const path = set ?? (role === current && source !== 'client' ? reset : shared)
  const schemas = JSON.parse(holding) as string[]
  const found = schemasOf(path, role).find(name => schemas.includes(name)) ?? null
  return { path, session, source, found }
}

/** The schemas of a path, in order. */
export function schemasOf(path: string, role: string): string[] {
  const names = path.matchAll(/"((?:[^"]|"")*)"|([^\s,"]+)/g)
  return [...names].map(([, quoted, plain]) => {
    const name = quoted?.replaceAll('""', '"') ?? plain!.toLowerCase()
    return name === '$user' ? role : name
  })
}
