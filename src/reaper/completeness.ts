import { boundedBy } from '../activity/bounded.ts'
import { type HealthFacts, healthFacts } from '../activity/health-facts.ts'
import { healthLimits } from '../activity/health-options.ts'
import { judge } from '../activity/judge.ts'
import type { Problem } from '../activity/problem.ts'
import { assertVisible, hiddenTable } from '../activity/visible.ts'
import { type Connection, execute } from '../database/connection.ts'
import { parseIsoText } from '../database/timestamp.ts'
import { formatDuration } from '../duration.ts'
import type { ReapRefusal } from './outcome.ts'
import type { ReapLimits } from './reap-options.ts'

/** How long the questions may take together, in ms. */
const WITHIN_MS = 30_000

/** The problems of the health verdict that mean: somebody may use a workspace, and we do not know it. */
const REASONS: readonly string[] = [
  'lag',
  'flushes-fail',
  'silent-source',
  'unknown',
] satisfies ReapRefusal['reason'][]

/**
 * Asks whether use is known completely enough to stop what looks idle.
 *
 * @returns The reasons why it is not. Empty if it is.
 * @throws {RowSecurityError} If row-level security may hide rows from the role.
 * @throws {NoAnswerError} If the database does not answer within 30 seconds.
 * @throws {NotMigratedError} If the database or pg-boss is not migrated.
 */
export async function lookForRefusals(
  connection: Connection,
  idleForSeconds: number,
  limits: ReapLimits,
): Promise<ReapRefusal[]> {
  const all = healthLimits(limits)
  const facts = await boundedBy(connection, WITHIN_MS, async bounded => {
    await assertRowsVisible(bounded)
    return await healthFacts(bounded, all)
  })
  return [...lossWithin(facts, idleForSeconds), ...judge(facts, all).flatMap(asRefusal)]
}

/** To a reaper, a workspace whose row is hidden would look as if somebody held it for ever. */
async function assertRowsVisible(connection: Connection): Promise<void> {
  const { rows } = await execute<{ hidden: string | null }>(connection, {
    sql: `SELECT ${hiddenTable('workspaces', 'stopped_workspaces')} AS hidden`,
    parameters: [],
  })
  assertVisible(rows[0]!.hidden)
}

function lossWithin({ other }: HealthFacts, idleForSeconds: number): ReapRefusal[] {
  if (other.completeSince === null) return []
  const since = parseIsoText(other.completeSince)
  const end = since.getTime() + idleForSeconds * 1_000
  if (end <= parseIsoText(other.asOf).getTime()) return []
  return [incomplete(since, idleForSeconds)]
}

/** The refusal after a loss of marks. */
export function incomplete(since: Date, idleForSeconds: number): ReapRefusal {
  return {
    reason: 'incomplete',
    message: `Marks were lost: use is complete since ${since.toISOString()} only, and a workspace must be idle for ${formatDuration(idleForSeconds)}.`,
    remedy:
      'Wait until that time is over. If you know that no mark is missing, DELETE FROM pending_usage_reset ends the wait.',
    since,
  }
}

/** Flushes that have failed once or twice are tried again within seconds. */
function asRefusal({ code, severity, message, remedy, since }: Problem): ReapRefusal[] {
  if (!REASONS.includes(code) || (code === 'flushes-fail' && severity !== 'critical')) return []
  return [{ reason: code as ReapRefusal['reason'], message, remedy, since }]
}
