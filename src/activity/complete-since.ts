import { A_CONNECTION, type Connection, execute, type Statement } from '../database/connection.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { checkOption } from '../options.ts'

/**
 * Tells from when on marks are complete. A crash of the server, the promotion of a standby or a restore loses pending
 * marks. What was used before may look idle since then, so do not stop it for that.
 *
 * It asks the function `usage_complete_since()`, which SQL can call too. That one is `-infinity` if no marks were lost.
 *
 * @param connection The role needs what `workspace-usage grant --reader` gives.
 * @returns The time of the last loss that was noticed. If no flush has noticed one yet, the time of this question. Null
 *   if no marks were ever lost.
 * @throws {NotMigratedError} If the database is not migrated.
 * @throws {StandbyError} On a standby.
 */
export async function usageCompleteSince(connection: Connection): Promise<Date | null> {
  checkOption('connection', connection, A_CONNECTION)
  const statement: Statement<{ since: string | null }> = {
    sql: `SELECT ${asIsoText('CASE WHEN isfinite(complete.since) THEN complete.since END')} AS since
      FROM (SELECT usage_complete_since() AS since) complete`,
    parameters: [],
  }
  const { rows } = await execute(connection, statement)
  const since = rows[0]!.since
  return since === null ? null : parseIsoText(since)
}
