import { Command } from 'commander'
import { privilegeStatements } from '../../access/duties.ts'
import { grantPrivileges } from '../../access/grant.ts'
import { withPool } from '../options/database-option.ts'
import { addDutyOptions, asScript, type DutyOptions, roleDuties } from '../options/duty-options.ts'

export function grantCommand(): Command {
  return addDutyOptions(
    new Command('grant').description('give roles the least they need; repeat it after an upgrade of pg-boss'),
  ).action(async (options: DutyOptions, command: Command) => {
    const duties = roleDuties(command, options)
    await withPool(options, async pool => {
      if (options.dryRun) return console.log(asScript(await privilegeStatements(pool, 'grant', duties)))
      await grantPrivileges(pool, duties)
      for (const [duty, roles] of Object.entries(duties)) {
        for (const role of roles) console.log(`granted to ${duty.slice(0, -1)} ${role}`)
      }
    })
  })
}
