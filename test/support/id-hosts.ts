import type { WorkspaceIdType } from '../../src/workspace-id.ts'
import { createEmptyDatabase, type TestDatabase } from './database.ts'
import { migrateDatabase } from './template.ts'

/** A host whose table `workspaces` has ids of one type. */
export interface IdHost {
  /** The type, in the name of a test. */
  name: string
  idType: WorkspaceIdType
  /** The type of the column, as in CREATE TABLE. */
  column: string
  /** What must exist before the table. */
  before?: string
  /** Ids that are hard to get right, in their canonical form. All are different. */
  ids: readonly string[]
  /** `count` other ids. */
  others(count: number): string[]
}

const TEXTS = [
  'plain',
  ' begins with a space',
  'ends with a space ',
  ' ',
  "O'Brien",
  '"quoted"',
  'back\\slash',
  'a\\"b',
  'comma, and; semicolon',
  '{braces}',
  '{}',
  'NULL',
  'null',
  'line\nline\r\nline',
  'tab\t',
  '🦆 emoji 👩‍👩‍👧',
  'ﬁnal é é',
  '$1',
  '%s',
  '-1',
  '0',
  '00000000-0000-0000-0000-000000000000',
  '\u{1}\u{7f}\u{feff}',
  'x'.repeat(255),
  '🦆'.repeat(255),
]

const integers = (count: number) => Array.from({ length: count }, (_, n) => String(n + 1_000))
const texts = (count: number) => Array.from({ length: count }, (_, n) => `team/${n}-workspace`)

export const ID_HOSTS: readonly IdHost[] = [
  {
    name: 'uuid',
    idType: 'uuid',
    column: 'uuid',
    ids: ['00000000-0000-0000-0000-000000000000', 'ffffffff-ffff-ffff-ffff-ffffffffffff'],
    others: count =>
      Array.from({ length: count }, (_, n) => `0b8f9f4e-2c55-4f11-9d0c-${String(n).padStart(12, '0')}`),
  },
  {
    name: 'bigint',
    idType: 'bigint',
    column: 'bigint',
    ids: ['0', '1', '-1', '9223372036854775807', '-9223372036854775808', '9007199254740993'],
    others: integers,
  },
  {
    name: 'integer',
    idType: 'integer',
    column: 'integer',
    ids: ['0', '1', '-1', '2147483647', '-2147483648'],
    others: integers,
  },
  { name: 'text', idType: 'text', column: 'text', ids: TEXTS, others: texts },
  { name: 'varchar(300)', idType: 'text', column: 'varchar(300)', ids: TEXTS, others: texts },
  { name: 'text COLLATE "C"', idType: 'text', column: 'text COLLATE "C"', ids: TEXTS, others: texts },
  {
    name: 'text of a collation that ignores case',
    idType: 'text',
    column: 'text COLLATE "no case"',
    before: `CREATE COLLATION "no case" (provider = icu, locale = 'und-u-ks-level2', deterministic = false)`,
    // To this collation, characters without a weight are nothing, and an emoji has no case.
    ids: TEXTS.filter(id => id !== 'null' && !id.includes('\u{feff}')),
    others: texts,
  },
]

/** A host that had its table before the first migration. The ids in it are those of {@link IdHost.ids}. */
export async function hostDatabase(
  { before, column, ids }: IdHost,
  { on, others = [] }: { on?: string; others?: readonly string[] } = {},
): Promise<TestDatabase> {
  const database = await createEmptyDatabase(on === undefined ? {} : { on })
  const { pool } = database
  if (before) await pool.query(before)
  await pool.query(`CREATE TABLE workspaces (id ${column} PRIMARY KEY, last_used_at timestamptz)`)
  await pool.query(`INSERT INTO workspaces (id) SELECT unnest($1::text[])::${column.split(' ')[0]}`, [
    [...ids, ...others],
  ])
  await migrateDatabase(database.connectionString)
  return database
}
