import { ask, type Check, type Looked, type Subject } from './check.ts'
import type { Finding } from './finding.ts'
import { recordedMigrations, shippedMigrations } from './migrations.ts'
import { pathOfRole } from './search-path.ts'

/** The tables and views of this package, beside `workspaces`. */
const OURS = [
  'pending_usage',
  'pending_usage_witness',
  'set_aside_usage',
  'refused_usage',
  'source_usage',
  'pending_usage_reset',
  'pending_usage_place',
  'pending_usage_period',
  'workspace_usage',
  'workspace_usage_day',
  'stopped_workspaces',
  'workspace_activity',
  'workspace_activity_by_source',
  'workspace_usage_daily',
]

/** Checks of where the objects are, and of the path that leads to them. */
export const SCHEMA_CHECKS: readonly Check[] = [
  { area: 'schema', name: 'tables', look: lookForTables },
  { area: 'schema', name: 'migrations', needsTables: true, look: lookAtMigrations },
  { area: 'schema', name: 'search_path', needsTables: true, look: lookAtPath },
  { area: 'schema', name: 'shadowing', needsTables: true, look: lookForShadows },
]

async function lookForTables({ db, schema, named }: Subject): Promise<Looked> {
  if (schema !== null) return { seen: `in the schema ${JSON.stringify(schema)}` }
  const rows = await ask<{ schema: string; path: string }>(
    db,
    `SELECT n.nspname::text AS schema, current_setting('search_path') AS path
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = 'pending_usage' AND c.relkind = 'r' AND c.relpersistence <> 't' ORDER BY 1`,
  )
  if (rows.length === 0) return { findings: [NOT_MIGRATED] }
  const schemas = rows.map(({ schema }) => schema)
  const path = rows[0]!.path
  const place = schemas.map(name => JSON.stringify(name)).join(' and ')
  return {
    findings: [
      {
        code: 'search-path',
        severity: 'critical',
        object: 'table pending_usage',
        message:
          named === undefined
            ? `search_path (${path === '' ? 'empty' : path}) does not find it. It is in the schema ${place}.`
            : `The schema ${JSON.stringify(named)} does not hold it, or the role may not use the schema. It is in the schema ${place}.`,
        remedy:
          'Name the schema (--schema), or set search_path in the connection string or for the role (ALTER ROLE … SET search_path). Let the role use the schema (USAGE).',
      },
    ],
  }
}

const NOT_MIGRATED: Finding = {
  code: 'not-migrated',
  severity: 'critical',
  object: 'table pending_usage',
  message: 'This database has no table of this package. Nothing can be marked.',
  remedy: 'Run: workspace-usage migrate',
}

async function lookAtMigrations({ db, schema }: Subject): Promise<Looked> {
  const [shipped, recorded] = await Promise.all([shippedMigrations(), recordedMigrations(db, schema!)])
  if (recorded === null) return { notChecked: 'the role may not read the record, and it has no comment' }
  const pending = shipped.filter(name => !recorded.includes(name))
  const newer = recorded.filter(name => !shipped.includes(name))
  const findings: Finding[] = []
  if (pending.length > 0) {
    findings.push({
      code: 'migrations-pending',
      severity: 'critical',
      object: pending.join(', '),
      message: 'This database is older than this package. Flushes and answers fail.',
      remedy: 'Run: workspace-usage migrate',
    })
  }
  if (newer.length > 0) {
    findings.push({
      code: 'migrations-newer',
      severity: 'warning',
      object: newer.join(', '),
      message: 'A newer workspace-usage has migrated this database. What this one does may not fit.',
      remedy: 'Upgrade workspace-usage here.',
    })
  }
  return { seen: recorded.toSorted().at(-1) ?? 'none', findings }
}

async function lookAtPath({ db, schema, named, role }: Subject): Promise<Looked> {
  if (named !== undefined) return { seen: 'not needed, because the schema is named' }
  const { path, session, source, found } = await pathOfRole(db, role)
  const seen = session === '' ? 'empty' : session
  if (found === schema) return { seen }
  const place =
    found === null ? 'finds no table of this package' : `finds those of the schema ${JSON.stringify(found)}`
  return {
    seen,
    findings: [
      {
        code: 'search-path-differs',
        // Whoever sets it in the connection string may well do so everywhere.
        severity: source === 'client' ? 'note' : 'warning',
        object: `role ${JSON.stringify(role)}`,
        message: `The search_path of this session is ${seen}. That of the role or database is ${path}, which ${place}.`,
        remedy:
          'Set it in each connection string, or for the role: ALTER ROLE … SET search_path. Or name the schema everywhere (--schema).',
      },
    ],
  }
}

interface Shadow {
  object: string
  schema: string
  other: string
  kind: 'temporary' | 'apart' | 'shadowed'
}

async function lookForShadows({ db, schema }: Subject): Promise<Looked> {
  // The found one is what the path leads to. The others are of the same name and further back in the path.
  const rows = await ask<Shadow>(
    db,
    `WITH found AS (
      SELECT name, c.oid, c.relkind, n.nspname, c.relpersistence
      FROM unnest($1::text[]) AS name
      JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(name)
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    )
    SELECT name::text AS object, nspname::text AS schema, ''::text AS other, 'temporary'::text AS kind
    FROM found WHERE relpersistence = 't'
    UNION ALL
    SELECT name, nspname, '', 'apart' FROM found
    WHERE name <> 'workspaces' AND nspname <> $2 AND relpersistence <> 't'
    UNION ALL
    SELECT f.name, f.nspname, n.nspname, 'shadowed'
    FROM found f
    JOIN pg_catalog.pg_class c ON c.relname = f.name AND c.oid <> f.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = ANY (pg_catalog.current_schemas(false)) AND f.relpersistence <> 't'
      AND NOT (f.name = 'workspaces' AND f.relkind = 'v')
    ORDER BY 1, 3`,
    [[...OURS, 'workspaces'], schema],
  )
  return { findings: rows.map(shadowFinding) }
}

const KINDS = {
  temporary: { code: 'temporary-table', severity: 'critical' },
  apart: { code: 'schemas-mixed', severity: 'critical' },
  shadowed: { code: 'shadowed', severity: 'warning' },
} as const

function shadowFinding({ object, schema, other, kind }: Shadow): Finding {
  const name = JSON.stringify(schema)
  const message = {
    temporary: 'This session finds a temporary table of this name, and not ours.',
    apart: `search_path finds it in the schema ${name}, and pending_usage in another one.`,
    shadowed: `search_path finds the one in the schema ${name}. That in ${JSON.stringify(other)} is not used.`,
  }[kind]
  return {
    ...KINDS[kind],
    object: `table ${object}`,
    message,
    remedy:
      kind === 'temporary'
        ? 'Drop the temporary table, or name it otherwise.'
        : 'Leave one of the two schemas out of search_path, or drop or rename the table that is not meant.',
  }
}
