import { WorkspaceUsageError } from './base.ts'

/** The pool of a worker is too small. A worker needs a second connection while a flush holds the first. */
export class PoolSizeError extends WorkspaceUsageError {
  /** The most connections of the pool. Null if the pool does not say, and gave fewer than needed in time. */
  readonly max: number | null
  readonly needed: number

  constructor(max: number | null, needed: number, options?: ErrorOptions) {
    const found =
      max === null
        ? `the pool of the worker did not hand out ${needed} connections at once`
        : `the pool of the worker has at most ${max} connection${max === 1 ? '' : 's'}`
    super(
      `${found}; allowed: ${needed} or more, 4 are better. Set max of the pg Pool, or free connections.`,
      options,
    )
    this.max = max
    this.needed = needed
  }
}

/** A pool did not hand out a connection in time. */
export class NoConnectionError extends WorkspaceUsageError {
  /** How long the connection was waited for, in milliseconds. */
  readonly timeoutMs: number

  constructor(timeoutMs: number, options?: ErrorOptions) {
    super(
      `the pool handed out no connection within ${timeoutMs / 1_000} s. Look whether others use all its connections ` +
        '(max of the pg Pool), and whether the server accepts new ones.',
      options,
    )
    this.timeoutMs = timeoutMs
  }
}

/** The driver of a pool turns values into something else than pg-boss expects. */
export class DriverFormatError extends WorkspaceUsageError {
  /** What the driver made of the values, as JSON. */
  readonly found: string
  readonly expected: string

  constructor(found: string, expected: string) {
    super(
      `the pool of the worker returns ${found} for a row; expected ${expected}. pg-boss can't work with that. ` +
        'Give the worker a connection string, or a pg Pool without type parsers of its own.',
    )
    this.found = found
    this.expected = expected
  }
}

/** A worker that was told to wait for its database has waited long enough. The last failure is the cause. */
export class DatabaseNotReadyError extends WorkspaceUsageError {
  readonly waitSeconds: number

  constructor(waitSeconds: number, options?: ErrorOptions) {
    const reason = options?.cause instanceof Error ? options.cause.message : String(options?.cause)
    super(
      `the database is not ready after a wait of ${waitSeconds} s: ${reason || 'no address of it answers'}. Allowed: a ` +
        'database that accepts connections, is migrated, and has granted the role its duty. Mend that, or wait longer.',
      options,
    )
    this.waitSeconds = waitSeconds
  }
}
