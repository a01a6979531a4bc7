import { sqlState } from '../database/sql-state.ts'

/** SQLSTATE classes and codes with which PostgreSQL says "not now". */
const PASSING = [
  '08', // connection exceptions
  '40', // deadlock, serialization failure
  '53', // too many connections, out of memory, disk full
  '57', // shutting down, starting up, cancelled, statement timeout, idle session timeout
  '55P03', // lock timeout
  '25006', // read-only: a standby, which may be the primary of before a failover
  '25P03', // idle-in-transaction timeout
  '3D000', // the database is not there yet
  '42P01', // nor is the table
  '42883', // nor the function
]

/**
 * Whether an error of a statement says that the database is away or busy, so that the same statement is likely to
 * succeed soon. Everything that is no SQLSTATE at all counts: it comes from the network, the driver or its pool, whose
 * timeouts and broken connections have no code to tell them by. What is left is refusal (privileges, types, a full
 * check of a trigger), which somebody has to mend.
 */
export function isOutage(error: unknown): boolean {
  // A system error's code, such as EPIPE, may look like a SQLSTATE.
  if (error instanceof Error && 'syscall' in error) return true
  const state = sqlState(error)
  return state === undefined || PASSING.some(code => state.startsWith(code))
}
