import type { AnyCommand } from '../command.ts'

/** What --help needs of a command. The rest is loaded when the command is chosen. */
export interface ListedCommand {
  name: string
  description: string
  /** Its argument, in commander's syntax: `<id>` is one id, `[id...]` is any number of ids. */
  argument?: { syntax: string; description: string }
  /** What may follow that argument. */
  secondArgument?: { syntax: string; description: string }
  load(): Promise<AnyCommand>
}

/** All commands, in the order of --help. */
export const COMMANDS: readonly ListedCommand[] = [
  {
    name: 'migrate',
    description: 'create or upgrade the tables, the pg-boss schema, the queue and the schedule',
    load: async () => (await import('./migrate.ts')).migrateCommand,
  },
  {
    name: 'worker',
    description: 'flush on schedule until SIGINT or SIGTERM; logs JSON to standard output',
    load: async () => (await import('./worker.ts')).workerCommand,
  },
  {
    name: 'mark',
    description: 'mark workspaces as in use now',
    argument: {
      syntax: '[id...]',
      description: 'workspace ids; default: read from standard input, one per line',
    },
    load: async () => (await import('./mark.ts')).markCommand,
  },
  {
    name: 'import',
    description: 'import use of the past: CSV of workspace,time[,source] on standard input',
    load: async () => (await import('./import.ts')).importCommand,
  },
  {
    name: 'flush',
    description: 'flush now, until no closed period is left',
    load: async () => (await import('./flush.ts')).flushCommand,
  },
  {
    name: 'status',
    description: 'pending marks, lag, and the last flush of a worker',
    load: async () => (await import('./status.ts')).statusCommand,
  },
  {
    name: 'doctor',
    description: 'look for everything that spoils marks, flushes or answers, or soon will',
    load: async () => (await import('./doctor.ts')).doctorCommand,
  },
  {
    name: 'sources',
    description: 'who marks, and whether that keeps workspaces alive',
    argument: { syntax: '[action]', description: '"ignore" or "count" a source; default: list all' },
    secondArgument: { syntax: '[source]', description: 'its name' },
    load: async () => (await import('./sources.ts')).sourcesCommand,
  },
  {
    name: 'explain',
    description: 'what keeps a workspace alive: last use by source, pending usage included',
    argument: { syntax: '<id>', description: 'workspace id' },
    load: async () => (await import('./explain.ts')).explainCommand,
  },
  {
    name: 'idle',
    description: 'workspaces not used for a time, or due soon: longest idle first',
    load: async () => (await import('./idle.ts')).idleCommand,
  },
  {
    name: 'reap',
    description: 'run a program for each workspace not used for a time; without --run, list them',
    argument: { syntax: '[argument...]', description: 'arguments of the program, before the id' },
    load: async () => (await import('./reap.ts')).reapCommand,
  },
  {
    name: 'period',
    description: 'show the length of a period, or set it',
    argument: { syntax: '[seconds]', description: 'the new length; default: show the length' },
    load: async () => (await import('./period.ts')).periodCommand,
  },
  {
    name: 'grant',
    description: 'give roles the least they need; repeat it after an upgrade of pg-boss',
    load: async () => (await import('./duties.ts')).grantCommand,
  },
  {
    name: 'revoke',
    description: 'take back what grant gives; schemas stay usable',
    load: async () => (await import('./duties.ts')).revokeCommand,
  },
]
