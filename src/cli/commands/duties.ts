import { privilegeStatements } from '../../access/duties.ts'
import { grantPrivileges, revokePrivileges } from '../../access/grant.ts'
import type { Command } from '../command.ts'
import { withPool } from '../options/database-option.ts'
import { DUTY_NAMES, type DutyOptions, dutyOptions, roleDuties } from '../options/duty-options.ts'

export const grantCommand = dutyCommand('grant', 'granted to', grantPrivileges)
export const revokeCommand = dutyCommand('revoke', 'revoked from', revokePrivileges)

function dutyCommand(
  action: 'grant' | 'revoke',
  done: string,
  apply: typeof grantPrivileges,
): Command<DutyOptions> {
  return {
    options: dutyOptions,
    run: async (terminal, options) => {
      const duties = roleDuties(options)
      return await withPool(options, async pool => {
        if (options.dryRun) {
          terminal.print(asScript(await privilegeStatements(pool, action, duties)))
          return 0
        }
        await apply(pool, duties)
        for (const duty of DUTY_NAMES) {
          for (const role of options[duty]) terminal.print(`${done} ${duty} ${role}`)
        }
        return 0
      })
    },
  }
}

/** The statements as a script for psql, in one transaction. */
function asScript(statements: readonly string[]): string {
  return ['BEGIN', ...statements, 'COMMIT'].map(statement => `${statement};`).join('\n')
}
