import { type Command, Option } from 'commander'
import type { RoleDuties } from '../../access/duties.ts'
import { type DatabaseOptions, databaseOption } from './database-option.ts'

/** What `grant` and `revoke` have in common. */
export interface DutyOptions extends DatabaseOptions {
  marker: string[]
  worker: string[]
  reader: string[]
  dryRun: boolean
}

/**
 * Adds `--marker`, `--worker` and `--reader`, each repeatable (its variable names one role), and `--dry-run`.
 */
export function addDutyOptions(command: Command): Command {
  return command
    .addOption(databaseOption())
    .addOption(roleOption('marker', 'role that marks'))
    .addOption(roleOption('worker', 'role that runs workers, or flushes by hand'))
    .addOption(roleOption('reader', 'role that reads last use: explain, idle, the views'))
    .addOption(
      new Option('--dry-run', 'print the SQL and change nothing')
        .env('WORKSPACE_USAGE_DRY_RUN')
        .default(false)
        .preset(true),
    )
}

/** The roles by duty. Ends the command as wrong usage if none is named. */
export function roleDuties(command: Command, { marker, worker, reader }: DutyOptions): RoleDuties {
  if (marker.length + worker.length + reader.length === 0) {
    command.error('error: name at least one role: --marker, --worker or --reader')
  }
  return { markers: marker, workers: worker, readers: reader }
}

/** Statements as a script for psql, all or nothing. */
export function asScript(statements: readonly string[]): string {
  return ['BEGIN', ...statements, 'COMMIT'].map(statement => `${statement};`).join('\n')
}

function roleOption(duty: string, description: string): Option {
  const roles: string[] = []
  return new Option(`--${duty} <role>`, `${description}; repeatable`)
    .env(`WORKSPACE_USAGE_${duty.toUpperCase()}`)
    .default(roles, 'none')
    .argParser((role: string, before: string[]) => [...before, role])
}
