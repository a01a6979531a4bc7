import { withoutPasswords } from './without-passwords.ts'

/** The base of every error of this package. `instanceof` tells them from errors of the database. */
export abstract class WorkspaceUsageError extends Error {
  override get name(): string {
    return this.constructor.name
  }
}

/** A workspace id is not a UUID. The call stored nothing. */
export class InvalidWorkspaceIdError extends WorkspaceUsageError {
  /** What was passed, without the password of a URL. */
  readonly value: unknown

  constructor(value: unknown) {
    super(
      `not a UUID: ${quote(value)}. A workspace id has the form 00000000-0000-0000-0000-000000000000, ` +
        'in upper or lower case; pass the value of workspaces.id.',
    )
    this.value = shown(value)
  }
}

/** A source is not one that `pending_usage` accepts. Nothing was sent to the database. */
export class InvalidSourceError extends WorkspaceUsageError {
  /** What was passed, without the password of a URL. */
  readonly value: unknown

  constructor(value: unknown) {
    super(
      `not a source: ${quote(value)}. A source is a text of 1 to 63 characters without NUL, and one of few ` +
        '(such as "ssh" or "vscode"): shorten it, or leave it out to use application_name.',
    )
    this.value = shown(value)
  }
}

/** An option or argument has a value that is not allowed. Nothing was changed in the database. */
export class InvalidOptionError extends WorkspaceUsageError {
  /** The option's name, as in the options object. */
  readonly option: string
  /** What was passed, without the password of a URL. */
  readonly value: unknown
  /** The allowed values, in words. */
  readonly allowed: string

  constructor(option: string, value: unknown, allowed: string) {
    super(`${option} is ${quote(value)}; allowed: ${allowed}.`)
    this.option = option
    this.value = shown(value)
    this.allowed = allowed
  }
}

/** The function has no such option. Nothing was sent to the database. */
export class UnknownOptionError extends WorkspaceUsageError {
  /** The option's name, as it was passed. */
  readonly option: string
  /** The names that are allowed. */
  readonly known: readonly string[]

  constructor(option: string, known: readonly string[], nearest: string | undefined) {
    const remedy = nearest === undefined ? 'Leave it out.' : `Did you mean ${quote(nearest)}?`
    super(`no such option: ${quote(option)}. ${remedy} Allowed: ${known.join(', ')}.`)
    this.option = option
    this.known = known
  }
}

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

/** The host's own table `workspaces` can't be adopted. Nothing was created. */
export class WorkspacesTableError extends WorkspaceUsageError {
  /** The column that is wrong. Null if the table itself is wrong. */
  readonly column: string | null
  readonly found: string
  readonly expected: string

  constructor(column: string | null, found: string, expected: string) {
    super(
      `the existing table "workspaces" can't be adopted: ${column === null ? '' : `column "${column}" `}${found}; ` +
        `expected ${expected}. Nothing was created. Change the table, or migrate in a schema of its own ` +
        '(set search_path in the connection string).',
    )
    this.column = column
    this.found = found
    this.expected = expected
  }
}

/** The flush queue exists with a policy that would break a promise. pg-boss can't change the policy of a queue. */
export class QueuePolicyError extends WorkspaceUsageError {
  readonly queue: string
  readonly policy: string
  readonly expected: string

  constructor(queue: string, policy: string, expected: string) {
    super(
      `the pg-boss queue "${queue}" has the policy "${policy}"; expected "${expected}". pg-boss can't change the ` +
        `policy of a queue: stop its workers, delete the queue (pg-boss: deleteQueue('${queue}'); pending marks ` +
        'stay where they are), then run `workspace-usage migrate`.',
    )
    this.queue = queue
    this.policy = policy
    this.expected = expected
  }
}

/** pg-boss's schema is newer than the pg-boss of this process. The schema was not changed. */
export class QueueSchemaError extends WorkspaceUsageError {
  /** The version of the schema that the database has. */
  readonly version: number
  /** The version that the pg-boss of this process works with. */
  readonly expected: number

  constructor(version: number, expected: number) {
    super(
      `the pg-boss schema of this database has version ${version}; expected ${expected}. A newer pg-boss has upgraded it. ` +
        'Upgrade workspace-usage here to a release whose pg-boss works with that version.',
    )
    this.version = version
    this.expected = expected
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

/** `UsageTracker.close` gave up. Some marks are not known to be stored, because no answer came. */
export class MarksNotStoredError extends WorkspaceUsageError {
  /** Distinct ids that are not known to be stored. */
  readonly left: number
  readonly timeoutMs: number

  constructor(left: number, timeoutMs: number) {
    super(
      `${left} ${left === 1 ? 'mark is' : 'marks are'} not stored: the tracker was closed and gave up after ` +
        `${timeoutMs} ms. Pass close a longer timeoutMs, or look at the logged error of the last attempt.`,
    )
    this.left = left
    this.timeoutMs = timeoutMs
  }
}

/** Some roles do not exist. Nothing was granted or revoked. */
export class UnknownRoleError extends WorkspaceUsageError {
  readonly roles: readonly string[]

  constructor(roles: readonly string[]) {
    const names = roles.map(quote).join(', ')
    super(
      `no such role: ${names}. Allowed: names of roles of this server, spelled as in pg_roles, "public" excluded. ` +
        'Nothing was changed. Create the role first (CREATE ROLE … LOGIN), then repeat the command.',
    )
    this.roles = roles
  }
}

/** PostgreSQL refused a GRANT or REVOKE, or skipped it with a warning. Nothing was granted or revoked. */
export class GrantRefusedError extends WorkspaceUsageError {
  readonly statement: string

  constructor(statement: string, options?: ErrorOptions) {
    super(
      `this role may not: ${statement}. Allowed: the owner of what it names, and superusers. Nothing was changed. ` +
        'Connect as the role that ran `workspace-usage migrate` (for "workspaces", as its owner).',
      options,
    )
    this.statement = statement
  }
}

/** PostgreSQL refused to change or drop an object of this package. Nothing was changed. */
export class SchemaChangeRefusedError extends WorkspaceUsageError {
  /** Why, in PostgreSQL's words. */
  readonly reason: string

  constructor(reason: string, remedy: string, options?: ErrorOptions) {
    super(`PostgreSQL refused the change: ${reason}. Nothing was changed. ${remedy}`, options)
    this.reason = reason
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

/** Loggers print the fields of an error, so they must hold no password either. */
function shown(value: unknown): unknown {
  return typeof value === 'string' ? withoutPasswords(value) : value
}

function quote(value: unknown): string {
  const text = shown(value)
  if (typeof text !== 'string') return String(text)
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
