import type { Connection } from '../database/connection.ts'
import { checkOptions } from '../options.ts'
import { IDLE_OPTIONS, type IdleOptions } from './idle-options.ts'
import { readIdlePages } from './idle-pages.ts'
import { type IdleTimes, type IdleWorkspace, idleWorkspaceOf } from './idle-row.ts'

/**
 * Lists workspaces that were not used for a time. Pending usage counts as use. A workspace that was never used counts
 * from its creation, if the host's table tells that. The workspace that was idle for longest comes first. Workspaces of
 * which neither time is known come last. No workspace comes twice, unless its last use is set to another time of the
 * past meanwhile, as an import does.
 *
 * The list is streamed. One page of rows is in memory. Between two pages there is no open connection and no snapshot,
 * so a caller that takes hours does not hold up VACUUM. Each page sees the usage up to its own moment.
 *
 * A listed workspace may be in use again when the caller gets to it. Before you stop or delete it, look again while you
 * hold its row lock: {@link reapIdle} does. If marks were lost within that time, it may look idle and be
 * in use: {@link usageCompleteSince} tells.
 *
 * @param connection Where each page is read. The role needs what `workspace-usage grant --reader` gives.
 * @throws {InvalidOptionError} At once, if an option is out of its range; nothing is sent then.
 * @throws {UnknownOptionError} At once, if there is no such option; nothing is sent then.
 * @throws {NotMigratedError} While iterating, if the view does not exist, or is of an older version.
 * @throws {RowSecurityError} While iterating, if row-level security may hide rows from the owner of the view.
 * @throws {StandbyError} While iterating, on a standby.
 * @throws {NoAnswerError} While iterating, if a pool does not answer within ten minutes.
 */
export function idleWorkspaces(connection: Connection, options: IdleOptions): AsyncGenerator<IdleWorkspace> {
  return eachOf(idlePages(connection, options))
}

async function* eachOf(pages: AsyncIterable<Iterable<IdleTimes>>): AsyncGenerator<IdleWorkspace> {
  for await (const page of pages) {
    for (const times of page) yield idleWorkspaceOf(times)
  }
}

/**
 * The same list as {@link idleWorkspaces} by pages. For the command line, because a step of an asynchronous iterator for
 * each workspace takes longer than to print it.
 *
 * @returns Pages that are not empty. Each can be iterated once.
 */
export function idlePages(connection: Connection, options: IdleOptions): AsyncGenerator<Iterable<IdleTimes>> {
  checkOptions(options, IDLE_OPTIONS, ['idleForSeconds'])
  return readIdlePages(connection, options)
}
