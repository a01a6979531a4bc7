import { styleText } from 'node:util'
import type { DoctorCheck, FindingSeverity } from '../../doctor/finding.ts'
import type { Output } from '../terminal.ts'
import { printable } from './printable.ts'

/** How one line of the doctor ends. */
export type Level = FindingSeverity | 'ok' | 'unknown'

/** One line of the doctor: a finding, or a check without one. */
export interface FindingLine {
  level: Level
  area: string
  /** The code of the finding, or the name of the check. */
  name: string
  text: string
  /** Empty if there is nothing to do. */
  remedy: string
}

const COLOURS: Readonly<Record<Level, Parameters<typeof styleText>[0]>> = {
  critical: ['bold', 'red'],
  warning: 'yellow',
  note: 'cyan',
  ok: 'green',
  unknown: 'magenta',
}

/** The lines of a diagnosis, in the order of its checks. Texts of the database are made safe for a terminal. */
export function findingLines(checks: readonly DoctorCheck[]): FindingLine[] {
  return checks.flatMap(({ area, name, seen, findings, notChecked }): FindingLine[] => {
    if (notChecked !== null) {
      return [
        { level: 'unknown', area, name, text: `could not be checked: ${inLine(notChecked)}`, remedy: '' },
      ]
    }
    if (findings.length === 0) return [{ level: 'ok', area, name, text: inLine(seen ?? ''), remedy: '' }]
    return findings.map(({ code, severity, object, message, remedy }) => ({
      level: severity,
      area,
      name: code,
      text: inLine(object === null ? message : `${object}: ${message}`),
      remedy: inLine(remedy),
    }))
  })
}

/** A level in its colour, if the output is a terminal that shows colours, and NO_COLOR does not say otherwise. */
export function coloured(level: Level, text: string, stream: Output): string {
  return styleText(COLOURS[level], text, { stream })
}

const inLine = (text: string) => printable(text.replaceAll(/\s+/g, ' '))
