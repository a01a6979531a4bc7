import { parseIsoText } from '../database/timestamp.ts'
import type { ResetReason } from '../worker/queue.ts'

/** A number of seconds: `180 s`. */
export function seconds(number: number): string {
  return `${Math.round(number * 10) / 10} s`
}

/** A duration as people say it: `45 s`, `12 min`, `5 h`, `3 days`. */
export function ago(duration: number): string {
  const positive = Math.max(0, duration)
  if (positive < 120) return `${Math.round(positive)} s`
  if (positive < 7_200) return `${Math.round(positive / 60)} min`
  if (positive < 172_800) return `${Math.round(positive / 3_600)} h`
  return `${Math.round(positive / 86_400)} days`
}

/** A number of marks: `1 mark`, `2 marks`. */
export function marks(number: number): string {
  return `${number} ${number === 1 ? 'mark' : 'marks'}`
}

/** A time of the facts. */
export function timeOf(text: string | null): Date | null {
  return text === null ? null : parseIsoText(text)
}

const CAUSES: Record<ResetReason, string> = {
  crash: 'a crash of the server',
  promotion: 'the promotion of a standby, or a recovery to a point in time',
  restore: 'a restore or a copy of the database',
  unknown: 'something unknown, such as a TRUNCATE by hand',
}

/** By what marks were lost: `a crash of the server`. */
export function cause(reason: ResetReason): string {
  return CAUSES[reason]
}
