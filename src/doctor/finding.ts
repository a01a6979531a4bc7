import type { Severity } from '../activity/problem.ts'

/** How bad a finding is. A note tells what to know. It needs nobody. */
export type FindingSeverity = Severity | 'note'

/** What a check of the doctor is about. */
export type DoctorArea =
  | 'health'
  | 'server'
  | 'connection'
  | 'schema'
  | 'access'
  | 'queue'
  | 'workspaces'
  | 'storage'

/** Something that the doctor found. */
export interface Finding {
  /** A stable name of the kind, such as `row-trigger`. */
  code: string
  severity: FindingSeverity
  /** What it is about, such as `index by_last_use`. Null if the code says all. */
  object: string | null
  /** What was found, and what follows from it. */
  message: string
  /** What to do about it. */
  remedy: string
}

/** One thing that the doctor looked at. */
export interface DoctorCheck {
  area: DoctorArea
  /** What was looked at, such as `clock`. */
  name: string
  /** What was seen, such as `0.01 s apart`. Null if there is nothing to say. */
  seen: string | null
  /** What was found. Empty if all is well. */
  findings: Finding[]
  /** Why it could not be checked. Null if it was checked. */
  notChecked: string | null
}

/** What the doctor says of a database. */
export interface Diagnosis {
  /** Whether nothing critical was found, and nothing to warn of. Notes do not count. */
  ok: boolean
  /** The role whose rights and settings were looked at. */
  role: string
  /** All that was looked at, grouped by area. */
  checks: DoctorCheck[]
  /** The findings of all checks: critical ones first, then warnings, then notes. */
  findings: Finding[]
}
