import { setTimeout } from 'node:timers/promises'
import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'
import { sqlState } from '../database/sql-state.ts'
import { SchemaChangeRefusedError } from '../errors.ts'
import type { SchemaChange } from './exclusive.ts'
import { explainingRefusals } from './refusal.ts'

/*
 * The tables that PostgreSQL empties after a crash, or keeps, all together. A flush locks the witness first, and so does
 * the switch. If only some of them were switched, they would not agree after a crash, and a loss could go unnoticed.
 */
const EMPTIED_TOGETHER = ['pending_usage_witness', 'pending_usage', 'set_aside_usage', 'refused_usage']

/** While the switch waits for a lock, all marks wait behind it. So each wait is short, and there are many. */
const LOCK_TIMEOUT = '200ms'
const PATIENCE_MS = 60_000
const PAUSE_MS = 500

/**
 * Makes the tables of marks LOGGED or UNLOGGED. PostgreSQL writes them anew, and marks wait meanwhile. If they are so
 * already, nothing is written.
 *
 * @returns Whether anything was changed.
 * @throws {SchemaChangeRefusedError} If the role does not own the tables, if they are distributed with Citus, or if other transactions hold them for a minute.
 */
export async function switchPersistence(change: SchemaChange, logged: boolean): Promise<boolean> {
  const { schema, logger, locked } = change
  if (await isDistributed(change.database)) throw unchangeable()
  const giveUpAt = performance.now() + PATIENCE_MS
  for (let tries = 1; ; tries++) {
    try {
      const changed = await explainingRefusals(schema, () =>
        locked('refuse', ({ transaction }) => switchWithin(transaction, schema, logged)),
      )
      if (changed) logger.info({ schema, logged }, 'switched the tables of marks')
      return changed
    } catch (error) {
      if (!isLockTimeout(error) || performance.now() > giveUpAt) throw error
      if (tries === 1)
        logger.info({}, 'another transaction holds a table of marks; trying again for a minute')
      await setTimeout(PAUSE_MS)
    }
  }
}

function unchangeable(): SchemaChangeRefusedError {
  return new SchemaChangeRefusedError(
    'Citus can not change whether distributed tables are LOGGED',
    'They stay as they were when they were distributed.',
  )
}

/** Whether marks survive a crash: all their tables are LOGGED. */
export async function isLogged(connection: Connection, schema: string): Promise<boolean> {
  return (await tablesWith(connection, schema, 'u')).length === 0
}

async function switchWithin(transaction: Connection, schema: string, logged: boolean): Promise<boolean> {
  const tables = (await tablesWith(transaction, schema, logged ? 'u' : 'p')).map(name => sql.id(schema, name))
  if (tables.length === 0) return false
  await execute(transaction, compile(sql`SET LOCAL lock_timeout = ${sql.lit(LOCK_TIMEOUT)}`))
  const all = sql.join(EMPTIED_TOGETHER.map(name => sql.id(schema, name)))
  await execute(transaction, compile(sql`LOCK TABLE ${all} IN ACCESS EXCLUSIVE MODE`))
  for (const table of tables) {
    await execute(
      transaction,
      compile(sql`ALTER TABLE ${table} SET ${sql.raw(logged ? 'LOGGED' : 'UNLOGGED')}`),
    )
  }
  return true
}

async function tablesWith(connection: Connection, schema: string, persistence: 'u' | 'p'): Promise<string[]> {
  const { rows } = await execute(
    connection,
    compile(sql<{ name: string }>`
      SELECT c.relname::text AS name
      FROM unnest(${EMPTIED_TOGETHER}::text[]) WITH ORDINALITY AS wanted (name, place)
      JOIN pg_catalog.pg_class c ON c.relname = wanted.name
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = ${schema}
      WHERE c.relpersistence = ${persistence} ORDER BY wanted.place`),
  )
  return rows.map(({ name }) => name)
}

/** PostgreSQL's own words tell nothing of it: its code does. */
function isLockTimeout(error: unknown): boolean {
  return error instanceof SchemaChangeRefusedError && sqlState(error.cause) === '55P03'
}
