import type { Option } from 'commander'
import type { ExitCode, Terminal } from './terminal.ts'

/** A command: its options and what it does. Its name and description are in {@link file://./commands/list.ts}. */
export interface Command<Options> {
  /** Makes its options, new ones for each run. */
  options(): Option[]
  /** Parses one argument, or throws commander's `InvalidArgumentError`. Default: the text stays as it is. */
  parseArgument?(text: string): unknown
  /** --help shows this below the options. */
  readonly notes?: string
  /** Runs it. `describeFailure` turns what it throws into text. */
  run(terminal: Terminal, options: Options, ...args: never[]): Promise<ExitCode>
}

/** A command with any options, as the list of commands holds it. */
export type AnyCommand = Command<never>
