import { assertViewsSeeAllRows, rowSecurity } from '../access/row-security.ts'
import { InsufficientPrivilegeError, RowSecurityError } from '../errors.ts'
import type { Check, Looked, Subject } from './check.ts'
import { duties, excess } from './duties.ts'
import type { Finding } from './finding.ts'

/** Checks of what the role may do, and of what is hidden from it. */
export const ACCESS_CHECKS: readonly Check[] = [
  { area: 'access', name: 'duties', needsTables: true, look: lookAtDuties },
  { area: 'access', name: 'privileges too many', needsTables: true, look: lookForExcess },
  { area: 'access', name: 'row security of the role', needsTables: true, look: lookAtRows },
  { area: 'access', name: 'row security of the views', needsTables: true, look: lookAtViews },
]

async function lookAtDuties({ db, role, asked, named }: Subject): Promise<Looked> {
  const found = await duties(db, role)
  const able = found.filter(({ state }) => state === 'full').map(({ duty }) => duty)
  const begun = found.filter(({ state }) => state === 'partial')
  if (able.length === 0 && begun.length === 0) return { findings: [noDuty(role, asked)] }
  return {
    seen: able.length === 0 ? 'none' : able.join(', '),
    findings: begun.flatMap(({ duty, missing }) =>
      [...missing].map(([object, actions]) => {
        const what = `${actions.join(', ')} on ${object}`
        const { command } = new InsufficientPrivilegeError(role, duty, what, null, { schema: named ?? null })
        return {
          code: 'privilege-missing',
          severity: 'warning',
          object,
          message: `The role ${JSON.stringify(role)} lacks for the duty of a ${duty}: ${what}.`,
          remedy: `Run: ${command}`,
        }
      }),
    ),
  }
}

function noDuty(role: string, asked: boolean): Finding {
  return {
    code: 'no-duty',
    // Somebody who only looks need not do anything else.
    severity: asked ? 'warning' : 'note',
    object: `role ${JSON.stringify(role)}`,
    message:
      'It can neither mark, nor run a worker, nor read the last use, nor stop what is idle, nor keep in use.',
    remedy: `Run workspace-usage grant with --marker, --worker, --reader, --reaper or --holder, and the name of the role.`,
  }
}

async function lookForExcess({ db, role }: Subject): Promise<Looked> {
  const found = await excess(db, role)
  if (found === null) return { seen: 'not judged: the role has no duty, or all rights' }
  return {
    findings: [...found].map(([object, actions]) => ({
      code: 'privilege-excess',
      severity: 'note',
      object,
      message: `The role ${JSON.stringify(role)} may do more than its duty needs: ${actions.join(', ')}.`,
      remedy:
        'Revoke it. If new tables have it by themselves, look at ALTER DEFAULT PRIVILEGES and at PUBLIC.',
    })),
  }
}

async function lookAtRows({ db, role }: Subject): Promise<Looked> {
  const states = new Map((await duties(db, role)).map(({ duty, state }) => [duty, state]))
  const works = states.get('worker') !== 'none'
  const reaps = ['full', 'partial'].includes(states.get('reaper') ?? 'none')
  const marks = states.get('marker') !== 'none'
  if (!works && !reaps && !marks) return { seen: 'not needed: the role neither marks, works nor reaps' }
  const rows = works || reaps ? await rowSecurity(db, role) : await rowSecurity(db, role, ['pending_usage'])
  const refused = works ? 'A flush' : reaps ? 'A run of the reaper' : 'A mark'
  return { findings: rows.map(({ table }) => hidden(table, role, refused)) }
}

async function lookAtViews({ db }: Subject): Promise<Looked> {
  try {
    await assertViewsSeeAllRows(db)
    return {}
  } catch (error) {
    if (!(error instanceof RowSecurityError) || error.table === null || error.role === null) throw error
    return { findings: [hidden(error.table, error.role, 'Each answer of the views')] }
  }
}

function hidden(table: string, role: string, refused: string): Finding {
  return {
    code: 'row-security',
    severity: 'critical',
    object: `table ${table}`,
    message: `Row security of the table applies to the role ${JSON.stringify(role)}. ${refused} is refused.`,
    remedy:
      'Let the role inherit from the owner of the table (and do not FORCE row security on it), or, as a superuser, ' +
      'ALTER ROLE … BYPASSRLS.',
  }
}
