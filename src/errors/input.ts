import { quote, shown, WorkspaceUsageError } from './base.ts'

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
