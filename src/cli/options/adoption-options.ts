import type { Option } from 'commander'
import type { AdoptionOptions } from '../../schema/adopt.ts'
import { A_COLUMN, A_TABLE } from '../../schema/identifiers.ts'
import { UsageError } from '../output/failure.ts'
import { textAllowedBy } from './parsers.ts'
import { VariableOption } from './variable-option.ts'

/** The options that name the host's table. */
export function adoptionOptions(): Option[] {
  return [
    new VariableOption(
      '--table <name>',
      'your table of workspaces, if it has another name: it is shown by a view "workspaces" and never altered',
      'WORKSPACE_USAGE_TABLE',
    ).argParser(textAllowedBy(A_TABLE)),
    column('--id-column <name>', 'with --table: the column of the id (default: id)', 'ID'),
    column(
      '--last-used-column <name>',
      'with --table: the column that flushes write (default: last_used_at)',
      'LAST_USED',
    ),
    column('--created-column <name>', 'with --table: the column of the time of creation', 'CREATED'),
    new VariableOption(
      '--where <condition>',
      'with --table: an SQL condition; other rows are no workspaces',
      'WORKSPACE_USAGE_WHERE',
    ),
  ].map(option => option.conflicts(['down']))
}

/** How the names are read, for the help. */
export const NAMES_NOTE = `Names are taken as they are written in the database, with upper case and without
quotes. The first dot of --table ends the schema. A part that has dots or quotes
stands in double quotes: --table 'app."my.table"'.`

function column(flags: string, description: string, name: string): VariableOption {
  return new VariableOption(flags, description, `WORKSPACE_USAGE_${name}_COLUMN`).argParser(
    textAllowedBy(A_COLUMN),
  ) as VariableOption
}

/** @throws {UsageError} If there is a column or a condition, and no table. */
export function adoptionOf(options: AdoptionOptions): AdoptionOptions {
  const { table, idColumn, lastUsedColumn, createdColumn, where } = options
  const given = { table, idColumn, lastUsedColumn, createdColumn, where }
  const named = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  if (table === undefined && Object.keys(named).length > 0) {
    throw new UsageError('--id-column, --last-used-column, --created-column and --where need --table')
  }
  return named
}
