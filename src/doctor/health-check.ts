import { usageHealth } from '../activity/health.ts'
import type { ProblemCode } from '../activity/problem.ts'
import type { Looked, Subject } from './check.ts'
import { duties } from './duties.ts'
import type { Finding } from './finding.ts'

/** Findings for which the verdict has a problem as well, which says less. */
const EXPLAINED: Readonly<Record<string, readonly ProblemCode[]>> = {
  standby: ['unavailable'],
  'not-migrated': ['unavailable'],
  'search-path': ['unavailable'],
  'temporary-table': ['unavailable'],
  'schemas-mixed': ['unavailable'],
  'migrations-pending': ['unavailable'],
  'row-security': ['unavailable'],
  'pg-boss-missing': ['unavailable', 'queue', 'schedule', 'no-worker'],
}

/**
 * Asks for the verdict that all of this package shares.
 *
 * @param found What the checks before have found.
 */
export async function lookAtHealth(subject: Subject, found: readonly Finding[]): Promise<Looked> {
  const { db, health: options } = subject
  const explained = new Set<string>(found.flatMap(({ code }) => EXPLAINED[code] ?? []))
  const { problems, pending } = await usageHealth(db, options)
  const told = problems.filter(({ code }) => !explained.has(code))
  if (told.some(({ code }) => code === 'unavailable') && !(await mayWork(subject))) {
    return { notChecked: 'it takes the rights of a worker (workspace-usage grant --worker)' }
  }
  if (told.length === 0 && problems.some(({ code }) => code === 'unavailable')) {
    return { notChecked: 'something critical is in the way' }
  }
  return {
    ...(pending && { seen: `lag ${pending.lagSeconds.toFixed(1)} s` }),
    findings: told.map(({ code, severity, object, message, remedy }) => ({
      code,
      severity,
      object,
      message,
      remedy,
    })),
  }
}

/** Whether the role of the connection has all that a worker needs. */
async function mayWork({ db, currentUser, schema }: Subject): Promise<boolean> {
  if (schema === null) return true
  const found = await duties(db, currentUser).catch(() => [])
  return found.some(({ duty, state }) => duty === 'worker' && state === 'full')
}
