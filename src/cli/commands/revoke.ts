import { Command } from 'commander'
import { privilegeStatements } from '../../access/duties.ts'
import { revokePrivileges } from '../../access/grant.ts'
import { withPool } from '../options/database-option.ts'
import { addDutyOptions, asScript, type DutyOptions, roleDuties } from '../options/duty-options.ts'

export function revokeCommand(): Command {
  return addDutyOptions(
    new Command('revoke').description('take back what grant gives; schemas stay usable'),
  ).action(async (options: DutyOptions, command: Command) => {
    const duties = roleDuties(command, options)
    await withPool(options, async pool => {
      if (options.dryRun) return console.log(asScript(await privilegeStatements(pool, 'revoke', duties)))
      await revokePrivileges(pool, duties)
      for (const [duty, roles] of Object.entries(duties)) {
        for (const role of roles) console.log(`revoked from ${duty.slice(0, -1)} ${role}`)
      }
    })
  })
}
