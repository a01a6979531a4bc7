import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { sqlState } from '../../../src/database/sql-state.ts'
import type { Logger } from '../../../src/logger.ts'
import type { Part, Report } from './messages.ts'
import type { Universe } from './universe.ts'

/** What a part of the check works with. */
export interface Surroundings extends Omit<Part, 'universe'> {
  universe: Universe
  report: Report
  /** Aborts when the part shall end. */
  signal: AbortSignal
}

/** The check counts what happens. The log of the product would only fill the terminal. */
export const silentLogger: Logger = { debug() {}, info() {}, warn() {}, error() {} }

/** A pool whose lost connections are no news. */
export function openPool(connectionString: string, applicationName: string, max: number): pg.Pool {
  const pool = new pg.Pool({
    connectionString,
    application_name: `history ${applicationName}`,
    max,
    connectionTimeoutMillis: 5_000,
  })
  pool.on('error', () => {})
  pool.on('connect', client => client.on('error', () => {}))
  return pool
}

/** Waits, at most until the part shall end. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal }).catch(() => {})
}

/** Reports that a statement failed. */
export async function reportError(report: Report, error: unknown): Promise<void> {
  const text = error instanceof Error ? error.message : String(error)
  await report({ type: 'error', state: sqlState(error) ?? 'none', text })
}

/**
 * Whether PostgreSQL said that it refused a statement. It had not begun, or is rolled back. Anything else, such as a
 * broken connection or a shutdown, leaves the outcome unknown.
 */
export function isRefused(error: unknown): boolean {
  const state = sqlState(error)
  return state !== undefined && !/^(08|57)/.test(state)
}

/** Rounds are numbered within a process. */
export class Rounds {
  #last = 0

  next(): number {
    this.#last++
    return this.#last
  }
}
