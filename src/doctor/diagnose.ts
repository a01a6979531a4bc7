import { assertRolesExist } from '../access/duties.ts'
import { HEALTH_OPTIONS, type HealthOptions } from '../activity/health.ts'
import { A_CONNECTION, type Connection } from '../database/connection.ts'
import { placeOf } from '../database/schema-path.ts'
import { sqlState } from '../database/sql-state.ts'
import { WorkspaceUsageError } from '../errors.ts'
import { checkOption, checkOptions, type OptionRules, whatever } from '../options.ts'
import { ACCESS_CHECKS } from './access-checks.ts'
import { ask, type Check, type Looked, type Subject } from './check.ts'
import { CONNECTION_CHECKS } from './connection-checks.ts'
import type { Diagnosis, DoctorCheck, FindingSeverity } from './finding.ts'
import { lookAtHealth } from './health-check.ts'
import { QUEUE_CHECKS } from './queue-checks.ts'
import { readOnly } from './read-only.ts'
import { SCHEMA_CHECKS } from './schema-checks.ts'
import { SERVER_CHECKS } from './server-checks.ts'
import { STORAGE_CHECKS } from './storage-checks.ts'
import { WORKSPACES_CHECKS } from './workspaces-checks.ts'

/** Options of {@link diagnose}. Those of the verdict are the same as of `usageHealth`. */
export interface DiagnoseOptions extends HealthOptions {
  /** The role whose rights and settings are looked at, spelled as in `pg_roles`. Default: the role of the connection. */
  as?: string
}

/** What the options of {@link diagnose} may be. */
export const DIAGNOSE_OPTIONS: OptionRules<DiagnoseOptions> = {
  as: whatever('the name of a role', value => typeof value === 'string' && value !== ''),
  ...HEALTH_OPTIONS,
}

const CHECKS: readonly Check[] = [
  ...SERVER_CHECKS,
  ...CONNECTION_CHECKS,
  ...SCHEMA_CHECKS,
  ...ACCESS_CHECKS,
  ...QUEUE_CHECKS,
  ...WORKSPACES_CHECKS,
  ...STORAGE_CHECKS,
]

const SEVERITIES: readonly FindingSeverity[] = ['critical', 'warning', 'note']

/**
 * Looks at everything about a database that may spoil marks, flushes or answers: the verdict of `usageHealth`, and what
 * would go wrong before it does. It changes nothing. What a role may not look at is a check with `notChecked`.
 *
 * @param connection Best a `pg` Pool, of which it takes two clients: its statements are read-only transactions then. A
 *   superuser or the owner of the tables sees most.
 * @throws {InvalidOptionError} If an option is not what it may be, or `connection` is none; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws {UnknownRoleError} If there is no role `as`.
 * @throws The driver's own error if the database is out of reach.
 */
export async function diagnose(connection: Connection, options: DiagnoseOptions = {}): Promise<Diagnosis> {
  checkOption('connection', connection, A_CONNECTION)
  checkOptions(options, DIAGNOSE_OPTIONS)
  const subject = await subjectOf(connection, options)
  const checks: DoctorCheck[] = []
  for (const check of CHECKS) {
    if (check.needsTables && subject.schema === null) continue
    checks.push(await done(check, () => check.look(subject)))
  }
  const before = checks.flatMap(({ findings }) => findings)
  checks.unshift(await done({ area: 'health', name: 'verdict' }, () => lookAtHealth(subject, before)))
  const findings = checks
    .flatMap(check => check.findings)
    .toSorted((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity))
  return { ok: findings.every(({ severity }) => severity === 'note'), role: subject.role, checks, findings }
}

async function subjectOf(connection: Connection, { as, ...health }: DiagnoseOptions): Promise<Subject> {
  const db = readOnly(connection)
  const [row] = await ask<{ role: string; schema: string | null; standby: string }>(
    db,
    `SELECT current_user::text AS role, pg_catalog.pg_is_in_recovery()::text AS standby, (
      SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid = pg_catalog.to_regclass('pending_usage')
    )::text AS schema`,
  )
  const { role: currentUser, schema, standby } = row!
  if (as !== undefined) await assertRolesExist(db, [as])
  const role = as ?? currentUser
  return {
    db,
    connection,
    role,
    asked: as !== undefined,
    currentUser,
    named: placeOf(connection).schema,
    schema,
    standby: standby === 'true',
    health,
  }
}

/** One check fails alone. Only an error of the connection itself ends all. */
async function done(
  { area, name }: Pick<Check, 'area' | 'name'>,
  look: () => Promise<Looked>,
): Promise<DoctorCheck> {
  try {
    const { seen = null, findings = [], notChecked = null } = await look()
    return { area, name, seen, findings, notChecked }
  } catch (error) {
    if (!(error instanceof WorkspaceUsageError) && sqlState(error) === undefined) throw error
    return { area, name, seen: null, findings: [], notChecked: (error as Error).message }
  }
}
