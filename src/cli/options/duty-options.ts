import type { Option } from 'commander'
import type { RoleDuties } from '../../access/duties.ts'
import type { Duty } from '../../errors.ts'
import { UsageError } from '../output/failure.ts'
import { type DatabaseOptions, databaseOptions } from './database-option.ts'
import { switchOption, VariableOption } from './variable-option.ts'

/** The help text of each duty. */
const DUTIES: Record<Duty, string> = {
  marker: 'role that marks',
  worker: 'role that runs workers, or flushes by hand',
  reader: 'role that reads the last use: explain, idle, the views',
  reaper: 'role that stops idle workspaces: reap, startReaper',
  holder: 'role that marks workspaces as in use until a time ahead',
}

/** The duties, in the order in which they are listed. */
export const DUTY_NAMES = Object.keys(DUTIES) as Duty[]

/** The options that `grant` and `revoke` share: the roles by duty, and whether to print only. */
export interface DutyOptions extends DatabaseOptions, Record<Duty, string[]> {
  dryRun: boolean
}

/** A repeatable option for each duty, and `--dry-run`. The variable of a duty names one role. */
export function dutyOptions(): Option[] {
  return [
    ...databaseOptions(),
    ...DUTY_NAMES.map(roleOption),
    switchOption('--dry-run', 'print the SQL and change nothing', 'WORKSPACE_USAGE_DRY_RUN'),
  ]
}

/**
 * The roles by duty.
 *
 * @throws {UsageError} If none is named.
 */
export function roleDuties(options: DutyOptions): RoleDuties {
  if (DUTY_NAMES.every(duty => options[duty].length === 0)) {
    const flags = DUTY_NAMES.map(duty => `--${duty}`)
    throw new UsageError(`name at least one role: ${flags.slice(0, -1).join(', ')} or ${flags.at(-1)}`)
  }
  const { marker: markers, worker: workers, reader: readers, reaper: reapers, holder: holders } = options
  return { markers, workers, readers, reapers, holders }
}

function roleOption(duty: Duty): Option {
  const roles: string[] = []
  const variable = `WORKSPACE_USAGE_${duty.toUpperCase()}`
  return new VariableOption(`--${duty} <role>`, `${DUTIES[duty]}; repeatable`, variable)
    .default(roles, 'none')
    .argParser((role: string, before: string[]) => [...before, role])
}
