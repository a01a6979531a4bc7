import type { IdleForecast } from '../../activity/idle-forecast.ts'
import { count } from './count.ts'

/**
 * A forecast for people, a line for each count.
 *
 * @param idleFor The asked time as it was typed, such as `7d`.
 */
export function forecastLines(forecast: IdleForecast, idleFor: string): string {
  const { workspaces, due, dueInDay, dueInWeek, inUse, neverUsed } = forecast
  const rows: [number, string][] = [
    [due, `due now: not used for ${idleFor}`],
    [dueInDay, 'due in a day, if not used until then'],
    [dueInWeek, 'due in a week, if not used until then'],
    [inUse, 'in use now, or within the last 5 minutes'],
    [neverUsed, 'never used, created at an unknown time'],
  ]
  const width = String(workspaces).length
  const lines = rows.map(([number, words]) => `  ${String(number).padStart(width)}  ${words}`)
  return [`of ${count(workspaces, 'workspace')}:`, ...lines].join('\n')
}
