import { dutyPrivileges } from '../access/duties.ts'
import { type HeldPrivilege, heldPrivileges } from '../access/privilege.ts'
import type { Connection } from '../database/connection.ts'
import { type Duty, NotMigratedError } from '../errors.ts'
import { JOB_SCHEMA } from '../worker/queue.ts'
import { ask } from './check.ts'

const DUTIES: readonly Duty[] = ['marker', 'worker', 'reader', 'reaper', 'holder']

/** How far a role can do a duty. */
export interface DutyOfRole {
  duty: Duty
  /** `partial` means that somebody meant the role to do it, and it lacks something. */
  state: 'full' | 'partial' | 'none'
  /** What is missing: actions by object. */
  missing: Map<string, string[]>
  privileges: HeldPrivilege[]
}

/** Tells what a role can do. Without pg-boss, nobody can be a worker or a reaper, and these duties are left out. */
export async function duties(db: Connection, role: string): Promise<DutyOfRole[]> {
  const found: DutyOfRole[] = []
  for (const duty of DUTIES) {
    const wanted = await dutyPrivileges(db, duty).catch((error: unknown) => {
      if (['worker', 'reaper'].includes(duty) && error instanceof NotMigratedError) return null
      throw error
    })
    if (wanted === null) continue
    const privileges = await heldPrivileges(db, role, wanted)
    const lacking = privileges.filter(({ held }) => !held)
    const begun = privileges.some(privilege => privilege.held && tells(duty, privilege))
    const state = lacking.length === 0 ? 'full' : begun ? 'partial' : 'none'
    found.push({ duty, state, missing: byObject(lacking), privileges })
  }
  return withoutPart(found)
}

/** A reaper has all that a reader has. If it lacks some of that, it is not a reader who lacks it too. */
function withoutPart(found: DutyOfRole[]): DutyOfRole[] {
  const reaps = found.some(({ duty, state }) => duty === 'reaper' && state === 'partial')
  if (!reaps) return found
  return found.map(one =>
    one.duty === 'reader' && one.state === 'partial' ? { ...one, state: 'none' } : one,
  )
}

/**
 * Whether a privilege is one that nobody has but for this duty. Others may use `workspaces` and pg-boss, and a host may
 * let everybody read.
 */
function tells(duty: Duty, { action, of: { on } }: HeldPrivilege): boolean {
  if (duty === 'holder') return on.kind === 'function'
  if (on.kind !== 'table' || on.schema === JOB_SCHEMA || on.name === 'workspaces') return false
  // A reaper may read all that a reader reads, and what a worker reads.
  if (duty === 'reaper') return on.name === 'stopped_workspaces'
  // Where the tables are distributed, a reader reads what a worker reads too.
  if (duty === 'reader') return /^workspace_(activity|usage_daily)/.test(on.name)
  return action !== 'SELECT'
}

type Action = Pick<HeldPrivilege, 'object' | 'action' | 'column'>

function byObject(actions: readonly Action[]): Map<string, string[]> {
  const objects = new Map<string, string[]>()
  for (const { object, action, column } of actions) {
    const list = objects.get(object) ?? []
    if (!objects.has(object)) objects.set(object, list)
    list.push(column === null ? action : `${action} (${column})`)
  }
  return objects
}

/**
 * What a role may do with our tables beyond its duties: actions by object. Null if it has no duty, or if it has the rights
 * of the owner.
 */
export async function excess(db: Connection, role: string): Promise<Map<string, string[]> | null> {
  const found = await duties(db, role)
  const full = found.filter(({ state }) => state === 'full')
  // Beside a full duty of a reader, what a reaper has is no more than what it was given as a reaper.
  const begun = found.filter(({ duty, state }) => duty === 'reaper' && state === 'partial')
  const rows = await ask<Action & { unlimited: boolean }>(db, HELD_ON_OURS, [role])
  if (full.length === 0 || rows.some(({ unlimited }) => unlimited)) return null
  const allowed = new Set(
    [...full, ...begun].flatMap(({ privileges }) =>
      privileges.flatMap(({ object, action, column }) => `${action} ${column ?? ''} ${object}`),
    ),
  )
  const more = rows.filter(
    ({ object, action, column }) =>
      !allowed.has(`${action}  ${object}`) && !allowed.has(`${action} ${column ?? ''} ${object}`),
  )
  const whole = more.map(({ object, action }) => ({ object, action, column: null }))
  return new Map([...byObject(whole)].map(([object, actions]) => [object, [...new Set(actions)]]))
}

const HELD_ON_OURS = `
  SELECT
    CASE c.relkind WHEN 'v' THEN 'view ' ELSE 'table ' END || c.oid::regclass AS object, held.action, held."column",
    r.rolsuper OR pg_catalog.pg_has_role(r.oid, c.relowner, 'USAGE') AS unlimited
  FROM unnest(ARRAY[
    'pending_usage', 'pending_usage_witness', 'set_aside_usage', 'refused_usage', 'source_usage', 'pending_usage_reset',
    'pending_usage_place', 'workspace_usage', 'workspace_usage_day', 'workspace_activity', 'workspace_activity_by_source',
    'workspace_usage_daily', 'stopped_workspaces'
  ]) AS name
  JOIN pg_catalog.pg_class c ON c.oid = pg_catalog.to_regclass(name)
  JOIN pg_catalog.pg_roles r ON r.rolname = $1
  CROSS JOIN LATERAL (
    SELECT action, NULL::text AS "column" FROM unnest(ARRAY['DELETE', 'TRUNCATE']) AS action
    WHERE has_table_privilege(r.oid, c.oid, action)
    UNION ALL
    SELECT action, a.attname::text
    FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE']) AS action, pg_catalog.pg_attribute a
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND has_column_privilege(r.oid, c.oid, a.attnum, action)
  ) held
  ORDER BY name, held.action`
