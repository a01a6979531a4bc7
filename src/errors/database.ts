import { quote, WorkspaceUsageError } from './base.ts'

/** The database lacks something that `migrate` creates, or holds an older version of it. */
export class NotMigratedError extends WorkspaceUsageError {
  /** The object that is missing or too old. */
  readonly missing: string

  constructor(missing: string, options?: ErrorOptions) {
    super(
      `this database is not migrated: ${missing}. Run \`workspace-usage migrate\` against it first.`,
      options,
    )
    this.missing = missing
  }
}

/** The server is a standby, or the session is read-only. An UNLOGGED table can be used on the primary only. */
export class StandbyError extends WorkspaceUsageError {
  constructor(options?: ErrorOptions) {
    super(
      'this server is a standby or in recovery, or the session is read-only: "pending_usage", an UNLOGGED table, ' +
        "can't be used there. Connect to the primary (target_session_attrs=read-write).",
      options,
    )
  }
}

/** What a role does, as in `workspace-usage grant --worker`. */
export type Duty = 'marker' | 'worker' | 'reader'

/** PostgreSQL refused a statement because the role lacks a privilege (SQLSTATE 42501). Its own error is the cause. */
export class InsufficientPrivilegeError extends WorkspaceUsageError {
  /** The role that lacks the privilege, as the server names it. */
  readonly role: string
  /** What the role was doing. */
  readonly duty: Duty
  /** The shell command that gives the role what the duty needs. */
  readonly command: string
  /** The place in a function or trigger, in PostgreSQL's words. Null if PostgreSQL refused the statement itself. */
  readonly where: string | null

  constructor(role: string, duty: Duty, refusal: string, where: string | null, options?: ErrorOptions) {
    const command = `workspace-usage grant --${duty} ${shellWord(role)}`
    const remedy =
      where === null
        ? `Run: ${command}`
        : `It was refused in: ${where.replaceAll(/\s+/g, ' ')}. Run: ${command}. If that is a trigger or function of yours, ` +
          'also grant the role what it does, or make the function SECURITY DEFINER.'
    super(`role ${quote(role)} lacks a privilege: ${refusal}. ${remedy}`, options)
    this.role = role
    this.duty = duty
    this.command = command
    this.where = where
  }
}

function shellWord(text: string): string {
  return /^[\w.-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
