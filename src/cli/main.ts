#!/usr/bin/env node
import { createRequire } from 'node:module'
import { Command, CommanderError } from 'commander'
import { explainCommand } from './explain.ts'
import { describeFailure } from './failure.ts'
import { flushCommand } from './flush.ts'
import { grantCommand } from './grant.ts'
import { idleCommand } from './idle.ts'
import { markCommand } from './mark.ts'
import { migrateCommand } from './migrate.ts'
import { revokeCommand } from './revoke.ts'
import { statusCommand } from './status.ts'
import { removeUnsetVariables } from './unset-variables.ts'
import { withoutPasswords } from './without-passwords.ts'
import { workerCommand } from './worker.ts'

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
