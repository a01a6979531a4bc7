import { styleText } from 'node:util'
import { explainUsage } from '../../src/activity/explain.ts'
import { idleWorkspaces } from '../../src/activity/idle.ts'
import { pendingStatus } from '../../src/activity/status.ts'
import { formatTime } from '../../src/cli/output/time.ts'
import type { Queryable } from '../../src/database/connection.ts'
import type { Logger } from '../../src/logger.ts'
import type { DemoUse } from './demo-use.ts'
import { say, show, showRow } from './screen.ts'

const HEADER = ['mark() calls', 'stored', 'flushed', 'workspaces', 'took', 'pending', 'lag']
const WIDTHS = [14, 9, 9, 12, 10, 9, 7]

/** Shows each flush as a row. After the first one it shows answers too. The rest of the log is shown as it is. */
export function flushReport(connection: Queryable, use: () => DemoUse | undefined): Logger {
  let rows = 0
  const report = async ({ flushed, updated, durationMs }: Record<string, unknown>) => {
    const { open, closed, lagSeconds } = await pendingStatus(connection)
    const { marked, stored } = use()?.counts() ?? {}
    if (rows++ === 0) showRow(HEADER, WIDTHS)
    const cells = [
      marked,
      stored,
      flushed,
      updated,
      `${Number(durationMs).toFixed(1)} ms`,
      open + closed,
      `${lagSeconds.toFixed(1)} s`,
    ]
    showRow(cells, WIDTHS)
    if (rows === 1 && use()) await showAnswers(connection, use()!.busiest)
  }
  const tell = (fields: object, message: string) => {
    // An error here can be ignored. The next flush reports the same, or the demo is stopping.
    if ('flushed' in fields && fields.flushed) report({ ...fields }).catch(() => {})
    else say(message)
  }
  const warn = (fields: { err?: Error }, message: string) =>
    say(styleText('red', fields.err ? `${message}: ${fields.err.message}` : message))
  return { debug: tell, info: tell, warn, error: warn }
}

async function showAnswers(connection: Queryable, workspaceId: string): Promise<void> {
  const { sources } = await explainUsage(connection, workspaceId)
  say('What keeps a workspace alive? Pending usage counts.')
  show(`npm run -s usage -- explain ${workspaceId}`)
  for (const { source, lastUsedAt, pending } of sources) {
    show(`  ${source.padEnd(12)}  ${formatTime(lastUsedAt)}  ${pending ? 'pending' : 'flushed'}`)
  }
  say('Which workspaces are idle?')
  show('npm run -s usage -- idle --for 1s --limit 3')
  for await (const { workspaceId, lastUsedAt } of idleWorkspaces(connection, {
    idleForSeconds: 1,
    limit: 3,
  })) {
    show(`  ${workspaceId}  ${lastUsedAt ? formatTime(lastUsedAt) : 'never used'}`)
  }
}
