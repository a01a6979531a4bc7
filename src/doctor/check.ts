import type { HealthOptions } from '../activity/health.ts'
import { type Connection, execute } from '../database/connection.ts'
import type { DoctorArea, Finding } from './finding.ts'

/** What the checks look at. */
export interface Subject {
  /** Where the statements of the checks run. They can change nothing there, if the caller gave a pool. */
  db: Connection
  /** What the caller gave. */
  connection: Connection
  /** The role whose rights and settings are looked at. */
  role: string
  /** Whether the caller named the role. */
  asked: boolean
  /** The role of the connection. */
  currentUser: string
  /** The schema that was named for the connection. Undefined: `search_path` leads to the tables. */
  named: string | undefined
  /** The schema of `pending_usage` as `search_path` finds it. Null if it finds none. */
  schema: string | null
  /** Whether there is a standby at the other end. It can't read UNLOGGED tables. */
  standby: boolean
  health: HealthOptions
}

/** What a check saw and found. */
export interface Looked {
  seen?: string
  findings?: Finding[]
  /** Why it could not look. */
  notChecked?: string
}

/** Something to look at. */
export interface Check {
  area: DoctorArea
  name: string
  /** Whether it makes sense only where the tables of this package are. */
  needsTables?: boolean
  look(subject: Subject): Promise<Looked>
}

/** The rows of a statement that is plain text. */
export async function ask<Row>(
  db: Connection,
  sql: string,
  parameters: readonly unknown[] = [],
): Promise<Row[]> {
  return (await execute<Row>(db, { sql, parameters })).rows
}
