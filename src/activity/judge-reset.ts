import { parseIsoText } from '../database/timestamp.ts'
import type { ResetReason } from '../worker/queue.ts'
import type { Judge } from './judge-tables.ts'
import type { Problem } from './problem.ts'
import { ago, cause, timeOf } from './words.ts'

const UNNOTICED: Problem = {
  code: 'reset',
  severity: 'warning',
  message:
    'Pending marks were lost, by a crash, a promotion or a restore. No flush has noted it yet, so it is not known when.',
  remedy:
    'Let a worker flush: it notes it. Do not judge workspaces as idle before. Find out why the server crashed.',
  since: null,
  object: null,
}

const REMEDIES: Record<ResetReason, string> = {
  crash: 'Find out why the server crashed.',
  promotion: 'They were not on the standby: its primary alone has them.',
  restore: 'If nothing was marked after the backup, DELETE FROM pending_usage_reset.',
  unknown: 'Find out who empties our tables.',
}

/** Whether pending marks were lost lately. */
export const judgeReset: Judge = ({ other }, { resetWithinSeconds }) => {
  if (other.lossUnnoticed) return UNNOTICED
  const last = timeOf(other.lastResetAt)
  if (!last) return null
  const past = (parseIsoText(other.asOf).getTime() - last.getTime()) / 1_000
  if (past > resetWithinSeconds) return null
  const until = timeOf(other.flushedUntil)
  const from = until ? ` Marks from ${until.toISOString()} on may be lost.` : ''
  const reason = other.lastResetReason ?? 'unknown'
  return {
    code: 'reset',
    severity: 'warning',
    message: `Pending marks were lost ${ago(past)} ago, by ${cause(reason)}.${from} Use is complete since ${last.toISOString()}.`,
    remedy: `Do not judge workspaces as idle by the time before. ${REMEDIES[reason]}`,
    since: last,
    object: null,
  }
}
