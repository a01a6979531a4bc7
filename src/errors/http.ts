import { quote, WorkspaceUsageError } from './base.ts'

/** Nothing can listen at this address and port. No worker was started. */
export class HttpPortError extends WorkspaceUsageError {
  /** The host, as it was passed. */
  readonly host: string
  readonly port: number
  /** The code of the system's error, such as `EADDRINUSE`. Null if it has none. */
  readonly code: string | null

  constructor(host: string, port: number, cause: Error & { code?: string | undefined }) {
    const [reason, remedy] = REASONS[cause.code ?? ''] ?? [cause.message, ANOTHER]
    super(`the worker can't listen on port ${port} of ${quote(host)}: ${reason}. ${remedy}`, { cause })
    this.host = host
    this.port = port
    this.code = cause.code ?? null
  }
}

const ANOTHER = 'Give another --port or --host; port 0 is any free one.'
const HOSTS = 'Allowed for --host: an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them.'

const REASONS: Record<string, [reason: string, remedy: string]> = {
  EADDRINUSE: ['another program listens there', ANOTHER],
  EACCES: [
    'this user may not listen there',
    'Ports below 1024 may need a privilege. Give a --port from 1024.',
  ],
  EADDRNOTAVAIL: ['that is no address of this machine', HOSTS],
  ENOTFOUND: ['no address is known for that name', HOSTS],
  EAI_AGAIN: ['no address is known for that name', HOSTS],
  EAFNOSUPPORT: ['this machine has no such kind of address', HOSTS],
}

/** The dashboard would be open to others, or half of its credentials is missing. Nothing was started. */
export class DashboardCredentialError extends WorkspaceUsageError {
  /** The host that the dashboard would listen at, as it was passed. */
  readonly host: string
  /** The environment variables that are missing. */
  readonly missing: readonly string[]

  constructor(host: string, missing: readonly string[]) {
    const reason =
      missing.length > 1
        ? `the dashboard would be open to everybody who reaches ${quote(host)}. Without a password it is served on ` +
          'loopback addresses only (127.0.0.1, ::1, localhost)'
        : 'only half of the credentials of the dashboard is set'
    super(`${reason}. Set ${missing.join(' and ')}, or change --host, or leave out --dashboard.`)
    this.host = host
    this.missing = missing
  }
}

/** The package of the dashboard is not installed. Something has removed it. Nothing was started. */
export class DashboardMissingError extends WorkspaceUsageError {
  /** The name of the package. */
  readonly package: string

  constructor(name: string, options?: ErrorOptions) {
    super(
      `the dashboard needs the package ${name}, which is not installed. Install it beside workspace-usage ` +
        'again, or leave out --dashboard.',
      options,
    )
    this.package = name
  }
}
