import { setTimeout } from 'node:timers/promises'
import { type Kysely, sql } from 'kysely'
import { sqlState } from '../database/sql-state.ts'
import { SchemaChangeRefusedError } from '../errors.ts'
import { ACTIVITY_VIEWS, createActivityViews } from './activity-views.ts'

/*
 * How a column of marks gets another type, although views and functions read it.
 *
 * PostgreSQL refuses that while anything depends on the column. To drop a view would take with it its grants, and what a
 * host has built on it. So each view is replaced in place by an empty one with the same columns, and each function by one
 * without a body. Then they are written again. All is one transaction, so nobody sees the empty ones.
 */

/** While it waits for a lock, all marks wait behind it. It is shorter than a second, after which deadlocks are looked for. */
const LOCK_TIMEOUT = '200ms'
const PATIENCE_MS = 10_000
const PAUSE_MS = 100

/** A view or a function that reads the column, as SQL. */
interface Dependant {
  name: string
  /** Whether statements of ours name the tables before it. */
  readAfterTables: boolean
  /** Replaces it by an empty one. */
  emptied: string
  /** Writes it again. Null for our views, which are written in today's form. */
  written: string | null
  /** Sets the options of a view again. Null if it has none. */
  options: string | null
}

/**
 * Runs a change of `source` in the tables of marks, while nobody else uses the tables and nothing depends on the column.
 *
 * It locks in the order of those who read: a view, the tables, pending_usage_period. A transaction of a host may do it in
 * another order. So either all locks are free within a moment, or all are let go and tried again.
 *
 * @throws {SchemaChangeRefusedError} If something depends on the column that can't be emptied, or written again.
 */
export async function whileNothingReadsSources(
  db: Kysely<never>,
  schema: string,
  change: () => Promise<void>,
): Promise<void> {
  const dependants = await emptyAndLock(db, schema)
  // feature_not_supported: there is a policy or a trigger, say.
  await refusing('0A000', 'something depends on pending_usage.source', change)
  await createActivityViews(db, schema)
  for (const dependant of dependants) await write(db, dependant)
}

async function emptyAndLock(db: Kysely<never>, schema: string): Promise<Dependant[]> {
  const giveUpAt = performance.now() + PATIENCE_MS
  for (;;) {
    await sql`SAVEPOINT nothing_emptied`.execute(db)
    try {
      await sql`SELECT set_config('lock_timeout', ${LOCK_TIMEOUT}, true)`.execute(db)
      // A flush locks this row before it has to wait for the marks. What it noted is in the order of the former type.
      await sql`UPDATE ${sql.id(schema, 'pending_usage_witness')} SET unsettled = NULL`.execute(db)
      const dependants = await dependantsOf(db, schema)
      const first = dependants.filter(({ readAfterTables }) => !readAfterTables)
      const last = dependants.filter(({ readAfterTables }) => readAfterTables)
      await empty(db, first)
      const tables = sql.join([sql.id(schema, 'pending_usage'), sql.id(schema, 'set_aside_usage')])
      await sql`LOCK TABLE ${tables} IN ACCESS EXCLUSIVE MODE`.execute(db)
      await empty(db, last)
      await sql`SELECT set_config('lock_timeout', '5s', true)`.execute(db)
      return dependants
    } catch (error) {
      if (sqlState(error) !== '55P03' || performance.now() > giveUpAt) throw error
      await sql`ROLLBACK TO SAVEPOINT nothing_emptied`.execute(db)
      await setTimeout(PAUSE_MS)
    }
  }
}

/** PostgreSQL itself writes the statements, from its catalog. */
async function dependantsOf(db: Kysely<never>, schema: string): Promise<Dependant[]> {
  const { rows } = await sql<Dependant>`
    WITH dependant AS (
      SELECT DISTINCT r.ev_class AS view, CASE WHEN r.oid IS NULL THEN d.objid END AS function
      FROM pg_catalog.pg_depend d
      JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid AND a.attname = 'source'
      JOIN pg_catalog.pg_class t ON t.oid = a.attrelid AND t.relname IN ('pending_usage', 'set_aside_usage')
      JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace AND n.nspname = ${schema}
      LEFT JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND r.oid = d.objid
      WHERE d.refclassid = 'pg_catalog.pg_class'::regclass
        AND d.classid IN ('pg_catalog.pg_rewrite'::regclass, 'pg_catalog.pg_proc'::regclass)
    )
    SELECT format('%I.%I', n.nspname, v.relname) AS name,
      n.nspname = ${schema} AND v.relname = 'pending_usage_period' AS "readAfterTables",
      format('CREATE OR REPLACE VIEW %I.%I AS SELECT %s WHERE false', n.nspname, v.relname, empty.columns) AS emptied,
      CASE WHEN n.nspname = ${schema} AND v.relname = ANY (${[...ACTIVITY_VIEWS]}::text[]) THEN NULL
        ELSE format('CREATE OR REPLACE VIEW %I.%I AS %s', n.nspname, v.relname, pg_catalog.pg_get_viewdef(v.oid))
      END AS written,
      CASE WHEN v.reloptions IS NOT NULL
        THEN format('ALTER VIEW %I.%I SET (%s)', n.nspname, v.relname, array_to_string(v.reloptions, ', '))
      END AS options
    FROM dependant
    JOIN pg_catalog.pg_class v ON v.oid = dependant.view AND v.relkind = 'v'
    JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace
    CROSS JOIN LATERAL (
      SELECT string_agg(
        format(
          'NULL::%s%s AS %I', pg_catalog.format_type(a.atttypid, a.atttypmod),
          (SELECT format(' COLLATE %I.%I', cn.nspname, c.collname) FROM pg_catalog.pg_collation c
            JOIN pg_catalog.pg_namespace cn ON cn.oid = c.collnamespace WHERE c.oid = a.attcollation),
          a.attname
        ), ', ' ORDER BY a.attnum
      ) AS columns
      FROM pg_catalog.pg_attribute a WHERE a.attrelid = v.oid AND a.attnum > 0
    ) empty
    UNION ALL
    SELECT p.oid::regprocedure::text, false, format(
        'CREATE OR REPLACE FUNCTION %I.%I(%s) RETURNS %s LANGUAGE sql AS %L', n.nspname, p.proname,
        pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_result(p.oid), ''
      ), pg_catalog.pg_get_functiondef(p.oid), NULL
    FROM dependant
    JOIN pg_catalog.pg_proc p ON p.oid = dependant.function AND p.prokind = 'f'
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  `.execute(db)
  return rows
}

/** A function without a body is accepted only if PostgreSQL does not look at it. */
async function empty(db: Kysely<never>, dependants: readonly Dependant[]): Promise<void> {
  const { rows } = await sql<{ before: string }>`
    SELECT current_setting('check_function_bodies') AS before
  `.execute(db)
  await sql`SELECT set_config('check_function_bodies', 'off', true)`.execute(db)
  for (const { emptied } of dependants) await sql.raw(emptied).execute(db)
  await sql`SELECT set_config('check_function_bodies', ${rows[0]!.before}, true)`.execute(db)
}

async function write(db: Kysely<never>, { name, written, options }: Dependant): Promise<void> {
  // invalid_table_definition: a view of the host that shows the column itself.
  await refusing('42P16', `${name} shows pending_usage.source`, async () => {
    if (written !== null) await sql.raw(written).execute(db)
  })
  if (options !== null) await sql.raw(options).execute(db)
}

async function refusing(state: string, what: string, run: () => Promise<void>): Promise<void> {
  try {
    await run()
  } catch (error) {
    if (sqlState(error) !== state) throw error
    const { message, detail } = error as Error & { detail?: string }
    const reason = [what, message, detail].filter(part => part !== undefined).join(': ')
    throw new SchemaChangeRefusedError(reason, 'Drop it, repeat, and create it again.', { cause: error })
  }
}
