#!/usr/bin/env node
import { createRequire } from 'node:module'
import { Command, CommanderError } from 'commander'
import { explainCommand } from './commands/explain.ts'
import { flushCommand } from './commands/flush.ts'
import { grantCommand } from './commands/grant.ts'
import { idleCommand } from './commands/idle.ts'
import { markCommand } from './commands/mark.ts'
import { migrateCommand } from './commands/migrate.ts'
import { revokeCommand } from './commands/revoke.ts'
import { statusCommand } from './commands/status.ts'
import { workerCommand } from './commands/worker.ts'
import { removeUnsetVariables } from './options/unset-variables.ts'
import { describeFailure } from './output/failure.ts'
import { withoutPasswords } from './output/without-passwords.ts'

const { version } = createRequire(import.meta.url)('workspace-usage/package.json') as { version: string }

const program = new Command('workspace-usage')
  .description('Know when each workspace was last used: marks in PostgreSQL, flushed by a pg-boss job.')
  .version(version)
  .addHelpText('after', '\nExit codes: 0 success, 1 failure, 2 wrong usage.')

const commands = [
  migrateCommand(),
  workerCommand(),
  markCommand(),
  flushCommand(),
  statusCommand(),
  explainCommand(),
  idleCommand(),
  grantCommand(),
  revokeCommand(),
]
for (const command of commands) program.addCommand(command)
for (const command of [program, ...program.commands]) {
  command.exitOverride().showHelpAfterError('(--help tells what is allowed)')
  command.configureOutput({ writeErr: text => process.stderr.write(withoutPasswords(text)) })
  removeUnsetVariables(command)
}

try {
  await program.parseAsync()
} catch (error) {
  if (error instanceof CommanderError) {
    // It has printed its text already; help and version are no errors.
    process.exitCode = error.exitCode === 0 ? 0 : 2
  } else {
    const { text, exitCode } = describeFailure(error)
    console.error(`error: ${withoutPasswords(text)}`)
    process.exitCode = exitCode
  }
}
