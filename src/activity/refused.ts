import { type Connection, execute, type Statement } from '../database/connection.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { checkOptions, integerWithin, type OptionRules } from '../options.ts'
import { assertVisible, hiddenTable } from './visible.ts'

/** The default number of workspaces that {@link refusedWorkspaces} lists. */
export const DEFAULT_REFUSED_LIMIT = 1_000

/** Options of {@link refusedWorkspaces}. */
export interface RefusedOptions {
  /** The most workspaces to list: an integer from 0 to 100,000. Default {@link DEFAULT_REFUSED_LIMIT}. */
  limit?: number
}

/** What the options of {@link refusedWorkspaces} may be. */
export const REFUSED_OPTIONS: OptionRules<RefusedOptions> = { limit: integerWithin(0, 100_000) }

/** A workspace whose update the database refuses. Its marks stay pending, and flushes try it again. */
export interface RefusedWorkspace {
  workspaceId: string
  /** When it was refused first. */
  since: Date
  /** How often it was tried since. */
  attempts: number
  /** The SQLSTATE of the last error. Null if a trigger cancelled the update without one. */
  sqlState: string | null
  /** The message of the last error. */
  message: string
  /** When it is tried again. */
  nextAttemptAt: Date
}

/** The refused workspaces. */
export interface RefusedWorkspaces {
  /** How many there are. */
  total: number
  /** The first of them: those that are refused for longest. */
  workspaces: RefusedWorkspace[]
}

/**
 * Lists the workspaces whose update the database refuses, and why: a check, a trigger or a policy of the host. Their
 * marks are flushed by themselves once the reason is gone.
 *
 * @param connection The role needs what `workspace-usage grant --worker` gives.
 * @throws {InvalidOptionError} If the limit is out of its range; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws {NotMigratedError} If there is no `refused_usage`.
 * @throws {RowSecurityError} If row-level security may hide rows from the role.
 * @throws {StandbyError} On a standby.
 */
export async function refusedWorkspaces(
  connection: Connection,
  options: RefusedOptions = {},
): Promise<RefusedWorkspaces> {
  checkOptions(options, REFUSED_OPTIONS)
  const statement: Statement<{ total: string; line: string | null; hidden: string | null }> = {
    sql: `SELECT counted.total::text AS total, first.line, ${hiddenTable('refused_usage')} AS hidden
      FROM (SELECT count(*) AS total FROM refused_usage) counted
      LEFT JOIN LATERAL (
        SELECT since, workspace_id, json_build_object(
          'workspaceId', workspace_id::text, 'since', ${asIsoText('since')}, 'attempts', attempts, 'sqlState', sqlstate,
          'message', message, 'nextAttemptAt', ${asIsoText('next_attempt_at')}
        )::text AS line
        FROM refused_usage ORDER BY since, workspace_id LIMIT $1
      ) first ON true
      ORDER BY first.since, first.workspace_id`,
    parameters: [options.limit ?? DEFAULT_REFUSED_LIMIT],
  }
  const { rows } = await execute(connection, statement)
  assertVisible(rows[0]!.hidden)
  return {
    total: Number(rows[0]!.total),
    workspaces: rows.flatMap(({ line }) => (line === null ? [] : refusedWorkspace(JSON.parse(line)))),
  }
}

type Line = Omit<RefusedWorkspace, 'since' | 'nextAttemptAt'> & { since: string; nextAttemptAt: string }

function refusedWorkspace({ since, nextAttemptAt, ...rest }: Line): RefusedWorkspace {
  return { ...rest, since: parseIsoText(since), nextAttemptAt: parseIsoText(nextAttemptAt) }
}
