import type { Option } from 'commander'
import type { ExitCode, Terminal } from './terminal.ts'

/** A command: what it takes, and what it does. Its name and description stand in {@link file://./commands/list.ts}. */
export interface Command<Options> {
  /** Its options, made anew for each run. */
  options(): Option[]
  /** Parses one argument; throws commander's `InvalidArgumentError`. Default: the text as it is. */
  parseArgument?(text: string): unknown
  /** Stands below the options in --help. */
  readonly notes?: string
  /** Runs it; what it throws is told by `describeFailure`. */
  run(terminal: Terminal, options: Options, ...args: never[]): Promise<ExitCode>
}

/** What the list of commands holds: a command of whatever options. */
export type AnyCommand = Command<never>
