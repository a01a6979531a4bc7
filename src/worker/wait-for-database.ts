import { constants } from 'node:os'
import { setTimeout as delay } from 'node:timers/promises'
import { sqlState } from '../database/sql-state.ts'
import {
  DatabaseNotReadyError,
  InsufficientPrivilegeError,
  NoAnswerError,
  NoConnectionError,
  NotMigratedError,
  StandbyError,
  WorkspaceUsageError,
} from '../errors.ts'
import type { Logger } from '../logger.ts'
import { withoutPasswords } from '../without-passwords.ts'

/*
 * A worker may start before its database: both come up together after a power cut, and Kubernetes knows no order. Then
 * the worker can wait for the database and for its migration.
 */

/** The pause between two attempts, in ms. An attempt is one connection and a few reads. */
const PAUSE_MS = 1_000

/** The longest time without a line in the log, in ms. */
const TELL_EVERY_MS = 30_000

/** The errors of ours that somebody else ends: who starts, migrates, grants or promotes. */
const PASSING_ERRORS = [
  InsufficientPrivilegeError,
  NoAnswerError,
  NoConnectionError,
  NotMigratedError,
  StandbyError,
]

/** The classes and codes of SQLSTATE with which PostgreSQL says "not now". */
const PASSING_STATES = [
  '08', // connection exceptions
  '40', // deadlock, serialization failure
  '53', // too many connections, out of memory, disk full
  '55', // locked, in use
  '57', // starting up, shutting down, cancelled
  '3D000', // the database is not created yet
  '3F000', // the schema is not created yet
  '42501', // not granted yet
  '42P01', // not migrated yet
  '42883', // not migrated yet
]

/** For how long, and what may end the wait. */
export interface Wait {
  /** Seconds. 0: there is one attempt only. */
  waitSeconds: number
  logger: Logger
  /** If it is aborted, the wait ends. Default: nothing but the time ends it. */
  signal?: AbortSignal | undefined
}

/**
 * Starts something that needs the database. Tries again while the error is one that may pass by itself. It may take as
 * much longer than `waitSeconds` as the last attempt takes.
 *
 * @param attempt Must leave nothing behind if it fails.
 * @throws {DatabaseNotReadyError} If the time is over. The last error is its cause.
 * @throws The error of an attempt if it is a lasting one.
 * @throws The reason of `signal`, if that is aborted. An attempt that is under way is awaited, and undone.
 */
export async function waitForDatabase<T extends AsyncDisposable>(
  attempt: () => Promise<T>,
  { waitSeconds, logger, signal }: Wait,
): Promise<T> {
  const started = performance.now()
  const waited = () => (performance.now() - started) / 1_000
  let told = { reason: '', at: 0 }
  for (;;) {
    signal?.throwIfAborted()
    try {
      const result = await attempt()
      if (signal?.aborted) await result[Symbol.asyncDispose]()
      signal?.throwIfAborted()
      if (told.reason !== '') logger.info({ waitedSeconds: rounded(waited()) }, 'the database is ready')
      return result
    } catch (error) {
      signal?.throwIfAborted()
      if (waitSeconds === 0 || !maySoonPass(error)) throw error
      if (waited() >= waitSeconds) throw new DatabaseNotReadyError(waitSeconds, { cause: error })
      const reason = withoutPasswords(reasonOf(error))
      if (reason !== told.reason || performance.now() - told.at >= TELL_EVERY_MS) {
        const leftSeconds = rounded(waitSeconds - waited())
        logger.info({ reason, leftSeconds }, 'the database is not ready; the worker waits')
        told = { reason, at: performance.now() }
      }
    }
    await delay(PAUSE_MS, undefined, { ...(signal && { signal }) }).catch(() => {})
  }
}

/** Whether the same start may succeed later, though nobody changes this worker. A wrong password does not pass. */
export function maySoonPass(error: unknown): boolean {
  if (PASSING_ERRORS.some(type => error instanceof type)) return true
  if (!(error instanceof Error) || error instanceof WorkspaceUsageError) return false
  // The code of a system error, such as EPIPE, may look like a SQLSTATE.
  if ('syscall' in error) return true
  const state = sqlState(error)
  if (state !== undefined && !(state in constants.errno)) {
    return PASSING_STATES.some(code => state.startsWith(code))
  }
  // All addresses of a name have failed with it. An error of TLS has another code.
  if ('code' in error && error.code !== undefined) return String(error.code) in constants.errno
  // A driver has no code for a connection that ended, or for its own deadline.
  return Object.getPrototypeOf(error) === Error.prototype
}

/** Node leaves the text empty if several addresses have failed. */
function reasonOf(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') {
    return error.errors.map(reasonOf).join(', ')
  }
  return error instanceof Error ? error.message : String(error)
}

function rounded(seconds: number): number {
  return Math.round(seconds * 10) / 10
}
