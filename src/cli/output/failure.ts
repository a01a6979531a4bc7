import { sqlState } from '../../database/sql-state.ts'
import {
  DashboardCredentialError,
  InvalidOptionError,
  InvalidSourceError,
  InvalidWorkspaceIdError,
  UntilOutOfRangeError,
  WorkspaceUsageError,
} from '../../errors.ts'

/** Wrong usage that commander can't detect. */
export class UsageError extends Error {
  override readonly name = 'UsageError'
}

/** Tells where to read what is allowed. It follows the text of wrong usage. */
export const HELP_HINT = '(--help tells what is allowed)'

/** What a failed command prints, and its exit code. */
export interface Failure {
  text: string
  /** 2 for wrong usage, 1 for anything else. */
  exitCode: 1 | 2
}

const CONNECTION_CODES: Record<string, string> = {
  ECONNREFUSED: 'connection refused',
  ECONNRESET: 'connection reset',
  ENOTFOUND: 'unknown host',
  EAI_AGAIN: 'unknown host',
  EHOSTUNREACH: 'host unreachable',
  ENETUNREACH: 'network unreachable',
  ETIMEDOUT: 'timed out',
  ENOENT: 'no such socket',
}

/** Says what went wrong in a sentence, without a stack and without the connection string. */
export function describeFailure(error: unknown): Failure {
  if (error instanceof UsageError) return { text: `${error.message}\n${HELP_HINT}`, exitCode: 2 }
  if (error instanceof InvalidOptionError && error.option === 'connectionString') {
    const text =
      "option '-d, --database-url <url>' (env: DATABASE_URL) is invalid. It is not shown, because it may hold a password. " +
      `Allowed: ${error.allowed}.`
    return { text: `${text}\n${HELP_HINT}`, exitCode: 2 }
  }
  if (
    error instanceof DashboardCredentialError ||
    error instanceof InvalidWorkspaceIdError ||
    error instanceof InvalidSourceError ||
    error instanceof InvalidOptionError ||
    error instanceof UntilOutOfRangeError
  ) {
    return { text: error.message, exitCode: 2 }
  }
  if (error instanceof WorkspaceUsageError) return { text: error.message, exitCode: 1 }
  if (!(error instanceof Error)) return { text: String(error), exitCode: 1 }
  const unreachable = describeUnreachable(error)
  if (unreachable) return { text: unreachable, exitCode: 1 }
  const state = sqlState(error)
  return {
    text: state
      ? `the database refused: ${error.message} (SQLSTATE ${state})${placeOf(error)}`
      : error.message,
    exitCode: 1,
  }
}

/** Where in a trigger or function of the host the error was raised. Empty if it was not in one. */
function placeOf(error: Error): string {
  return 'where' in error && typeof error.where === 'string'
    ? `, in: ${error.where.replaceAll(/\s+/g, ' ')}`
    : ''
}

/** For a host with several addresses, Node throws an AggregateError with an empty message. */
function describeUnreachable(error: Error): string | undefined {
  const cause = error instanceof AggregateError ? error.errors[0] : error
  const { code, address, port, hostname } = cause as NodeJS.ErrnoException & {
    address?: string
    port?: number
    hostname?: string
  }
  const reason = code === undefined ? undefined : CONNECTION_CODES[code]
  if (!reason) return undefined
  const where = [address ?? hostname, port].filter(part => part !== undefined).join(':')
  return (
    `can't reach the database${where && ` at ${where}`}: ${reason} (${code}). ` +
    'Check --database-url (DATABASE_URL), and that the server runs and accepts connections from here.'
  )
}
