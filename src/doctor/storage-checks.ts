import { DISTRIBUTED } from '../database/distributed.ts'
import { workspacesTable } from '../schema/workspaces-table.ts'
import { ask, type Check, type Looked, type Subject } from './check.ts'
import type { Finding } from './finding.ts'

const OF_MARKS: Readonly<Record<string, string>> = {
  autovacuum_vacuum_threshold: '1000',
  autovacuum_vacuum_scale_factor: '0.0',
  autovacuum_vacuum_insert_threshold: '-1',
  autovacuum_vacuum_cost_delay: '0',
  vacuum_truncate: 'off',
}

/** What the migrations set. */
export const STORAGE_PARAMETERS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  pending_usage: OF_MARKS,
  set_aside_usage: OF_MARKS,
  pending_usage_witness: {},
  refused_usage: {},
  pending_usage_reset: {},
  pending_usage_place: {},
  source_usage: { fillfactor: '50' },
  workspace_usage: { fillfactor: '75' },
  workspace_usage_day: { fillfactor: '75' },
  stopped_workspaces: {},
}

/** The tables that are emptied together. `pending_usage` itself is a matter of the verdict. */
const EMPTIED_TOGETHER = ['pending_usage_witness', 'set_aside_usage', 'refused_usage']

/** Checks of how the tables are stored and vacuumed. */
export const STORAGE_CHECKS: readonly Check[] = [
  { area: 'storage', name: 'autovacuum', needsTables: true, look: lookAtAutovacuum },
  { area: 'storage', name: 'parameters', needsTables: true, look: lookAtParameters },
  { area: 'storage', name: 'persistence', needsTables: true, look: lookAtPersistence },
]

const NAMED = 'unnest($1::text[]) AS name JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(name)'

const tables = () => Object.keys(STORAGE_PARAMETERS)

async function lookAtAutovacuum({ db }: Subject): Promise<Looked> {
  const settings = await ask<{ name: string }>(
    db,
    `SELECT name FROM unnest(ARRAY['autovacuum', 'track_counts']) AS name
    WHERE current_setting(name) = 'off' ORDER BY name`,
  )
  const off = await ask<{ name: string }>(
    db,
    `SELECT c.oid::regclass::text AS name FROM ${NAMED}
    CROSS JOIN LATERAL pg_catalog.pg_options_to_table(c.reloptions) o
    WHERE o.option_name = 'autovacuum_enabled' AND NOT o.option_value::boolean ORDER BY 1`,
    [[...tables(), (await workspacesTable(db))?.text ?? 'workspaces']],
  )
  const remedies: [object: string, remedy: string][] = [
    ...settings.map(({ name }): [string, string] => [`setting ${name}`, `Set ${name} = on.`]),
    ...off.map(({ name }): [string, string] => [
      `table ${name}`,
      `ALTER TABLE ${name} RESET (autovacuum_enabled)`,
    ]),
  ]
  return {
    findings: remedies.map(([object, remedy]) => ({
      code: 'autovacuum-off',
      severity: 'warning',
      object,
      message: 'Nothing removes what flushes have deleted and updated. Marks and flushes get slower.',
      remedy,
    })),
  }
}

async function lookAtParameters({ db }: Subject): Promise<Looked> {
  const rows = await ask<{ name: string; shown: string; options: string }>(
    db,
    `SELECT name, c.oid::regclass::text AS shown, coalesce((
        SELECT json_object_agg(o.option_name, o.option_value)
        FROM pg_catalog.pg_options_to_table(c.reloptions) o
      ), '{}')::text AS options
    FROM ${NAMED} ORDER BY 1`,
    [tables()],
  )
  return {
    findings: rows.flatMap(({ name, shown, options }) =>
      changed(shown, JSON.parse(options), STORAGE_PARAMETERS[name]!),
    ),
  }
}

function changed(
  table: string,
  found: Record<string, string>,
  wanted: Readonly<Record<string, string>>,
): Finding[] {
  const names = [...new Set([...Object.keys(found), ...Object.keys(wanted)])].sort()
  return names
    .filter(name => name !== 'autovacuum_enabled' && !isSame(found[name], wanted[name]))
    .map(name => ({
      code: 'storage-parameter',
      severity: 'note',
      object: `table ${table}`,
      message: `${name} is ${found[name] ?? 'not set'}. migrate leaves it ${wanted[name] ?? 'unset'}.`,
      remedy:
        wanted[name] === undefined
          ? `ALTER TABLE ${table} RESET (${name})`
          : `ALTER TABLE ${table} SET (${name} = ${wanted[name]})`,
    }))
}

/** Numbers and switches can be written in several ways. */
function isSame(found: string | undefined, wanted: string | undefined): boolean {
  const plain = (text = '') => (/^(off|false|no|0)$/i.test(text) ? '0' : String(Number(text)))
  return found === wanted || (found !== undefined && wanted !== undefined && plain(found) === plain(wanted))
}

async function lookAtPersistence({ db }: Subject): Promise<Looked> {
  const rows = await ask<{ name: string; logged: boolean }>(
    db,
    `SELECT c.oid::regclass::text AS name, c.relpersistence = 'p' AS logged
    FROM ${NAMED}
    WHERE c.relpersistence <> (
      SELECT relpersistence FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass('pending_usage')
    ) AND NOT (name = 'pending_usage_witness' AND ${DISTRIBUTED})
    ORDER BY 1`,
    [EMPTIED_TOGETHER],
  )
  return {
    findings: rows.map(({ name, logged }) => ({
      code: 'persistence',
      severity: 'warning',
      object: `table ${name}`,
      message: `It is ${logged ? 'logged' : 'UNLOGGED'}, and pending_usage is not. After a crash the two do not agree, and a loss may go unnoticed.`,
      remedy: `ALTER TABLE ${name} SET ${logged ? 'UNLOGGED' : 'LOGGED'}`,
    })),
  }
}
