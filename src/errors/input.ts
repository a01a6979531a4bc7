import { shellWord } from '../shell-word.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { quote, shown, WorkspaceUsageError } from './base.ts'

/** A workspace id is not one of the type that was expected. The call stored nothing. */
export class InvalidWorkspaceIdError extends WorkspaceUsageError {
  /** What was passed, without the password of a URL. */
  readonly value: unknown
  /** The type that the id should have had. Default of all functions: `uuid`. */
  readonly idType: WorkspaceIdType

  constructor(value: unknown, idType: WorkspaceIdType = 'uuid') {
    super(`${WRONG_ID[idType][0]}: ${quote(value)}. ${WRONG_ID[idType][1]}`)
    this.value = shown(value)
    this.idType = idType
  }
}

/** For each type: what the value is not, and what is allowed. */
const WRONG_ID: Record<WorkspaceIdType, readonly [not: string, allowed: string]> = {
  uuid: [
    'not a UUID',
    'A workspace id has the form 00000000-0000-0000-0000-000000000000, in upper or lower case; pass the value of ' +
      'workspaces.id. In code, ids that are bigint, integer or text need the option idType.',
  ],
  bigint: [
    'not a bigint',
    'A workspace id is an integer from -9223372036854775808 to 9223372036854775807, without leading zeros; pass the ' +
      'value of workspaces.id as a string, a bigint or a safe integer.',
  ],
  integer: [
    'not an integer',
    'A workspace id is an integer from -2147483648 to 2147483647, without leading zeros; pass the value of ' +
      'workspaces.id.',
  ],
  text: [
    'not a text id',
    'A workspace id is a string of 1 to 255 characters, without NUL and without half a surrogate pair; pass the value ' +
      'of workspaces.id.',
  ],
}

/** Marks were sent as ids of one type, and the database has ids of another. Nothing was stored. */
export class WorkspaceIdTypeError extends WorkspaceUsageError {
  /** The type that the ids were sent as: the option `idType`. */
  readonly idType: WorkspaceIdType
  /** The type that the database has. Null if it could not be asked. */
  readonly databaseType: WorkspaceIdType | null

  constructor(idType: WorkspaceIdType, databaseType: WorkspaceIdType | null, options?: ErrorOptions) {
    const remedy =
      databaseType === null
        ? 'Set the option idType to the type of workspaces.id (uuid, bigint, integer or text).'
        : `Set the option idType: '${databaseType}'.`
    const has = databaseType === null ? 'of another type' : databaseType
    super(`workspace ids were sent as ${idType}, but in the database they are ${has}. ${remedy}`, options)
    this.idType = idType
    this.databaseType = databaseType
  }
}

/** A source is empty, too long, holds NUL or is no text. Nothing was sent to the database. */
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

/** No source of that name is known. Nothing was changed. */
export class UnknownSourceError extends WorkspaceUsageError {
  /** What was passed, without the password of a URL. */
  readonly source: string
  /** Known sources with similar names, at most three, the most similar first. */
  readonly nearest: readonly string[]

  constructor(source: string, nearest: readonly string[]) {
    const hint =
      nearest.length === 0 ? 'There is none yet.' : `Did you mean ${nearest.map(quote).join(' or ')}?`
    super(`no such source: ${quote(source)}. ${hint} "workspace-usage sources" lists them.`)
    this.source = String(shown(source))
    this.nearest = nearest
  }
}

/** A source that does not count can't be forgotten, because it would count then. Nothing was changed. */
export class SourceIgnoredError extends WorkspaceUsageError {
  readonly source: string

  constructor(source: string) {
    super(
      `the source ${quote(source)} does not count, and would count if it was forgotten. Nobody is warned of its silence. ` +
        `To forget it nevertheless, let it count first: workspace-usage sources count ${source.startsWith('-') ? '-- ' : ''}${shellWord(source)}`,
    )
    this.source = source
  }
}

/** A workspace can't be in use until that time: it is not ahead, or too far ahead. Nothing was stored. */
export class UntilOutOfRangeError extends WorkspaceUsageError {
  /** What was asked for. */
  readonly until: Date
  /** The latest time that is allowed, by the database's clock. */
  readonly latest: Date

  constructor(until: Date, latest: Date, options?: ErrorOptions) {
    super(
      `a workspace can't be in use until ${until.toISOString()}. Allowed: after now, and not after ` +
        `${latest.toISOString()}, by the database's clock. Call again later to prolong the use, or raise the bound: ` +
        'workspace-usage migrate --until-limit.',
      options,
    )
    this.until = until
    this.latest = latest
  }
}
