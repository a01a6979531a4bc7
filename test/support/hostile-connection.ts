import { CamelCasePlugin, type Kysely, Kysely as KyselyInstance, PostgresDialect } from 'kysely'
import pg from 'pg'
import { atEnd } from './at-end.ts'
import type { TestDatabase } from './database.ts'

/**
 * Settings of a role that a host might have. None of them may change what we answer. The schema of the tests is
 * `public`, which stays in `search_path`.
 */
export const HOSTILE_SETTINGS: Readonly<Record<string, string>> = {
  DateStyle: 'SQL, DMY',
  TimeZone: 'Asia/Kathmandu',
  IntervalStyle: 'sql_standard',
  extra_float_digits: '-15',
  bytea_output: 'escape',
  xmlbinary: 'hex',
  standard_conforming_strings: 'off',
  backslash_quote: 'off',
  escape_string_warning: 'off',
  quote_all_identifiers: 'on',
  transform_null_equals: 'on',
  array_nulls: 'off',
  default_transaction_isolation: 'serializable',
  default_transaction_deferrable: 'on',
  search_path: '"$user", public',
  lc_messages: 'C',
  plan_cache_mode: 'force_generic_plan',
  enable_indexscan: 'off',
  enable_bitmapscan: 'off',
  row_security: 'on',
}

/** A host's connections at their worst, as a `pg` Pool and as a Kysely instance. */
export interface HostileConnection {
  pool: pg.Pool
  kysely: Kysely<unknown>
  /** A name for the cases of a loop, and a connection for each. */
  each: readonly (readonly [name: string, connection: pg.Pool | Kysely<unknown>])[]
}

/**
 * Connects as a host would whose driver and session are set to everything that is odd: each type but text is parsed
 * into an object of no use, Kysely renames all columns, and each of {@link HOSTILE_SETTINGS} is in force.
 *
 * @param role Default: the superuser of the tests.
 */
export function connectHostile(
  database: TestDatabase,
  role?: { user: string; password: string },
): HostileConnection {
  const pool = new pg.Pool({
    connectionString: database.connectionString,
    ...role,
    max: 10,
    application_name: 'hostile',
    types: { getTypeParser: parserOf } as pg.CustomTypesConfig,
    options: Object.entries(HOSTILE_SETTINGS)
      .map(([name, value]) => `-c ${name}=${value.replaceAll(/[\\ ]/g, '\\$&')}`)
      .join(' '),
  })
  pool.on('error', () => {})
  pool.on('connect', client => client.on('error', () => {}))
  atEnd(async () => {
    await pool.end()
  })
  const kysely = new KyselyInstance<unknown>({
    dialect: new PostgresDialect({ pool }),
    plugins: [new CamelCasePlugin()],
  })
  return {
    pool,
    kysely,
    each: [
      ['a pg Pool', pool],
      ['Kysely', kysely],
    ],
  }
}

/** Text is text. Nobody can ask for less of a driver. */
const TEXT = pg.types.builtins.TEXT

function parserOf(oid: number): (value: string) => unknown {
  return oid === TEXT ? value => value : value => ({ hostile: value })
}
