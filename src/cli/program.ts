import { createRequire } from 'node:module'
import { type Command, CommanderError, Command as Program } from 'commander'
import { COMMANDS, type ListedCommand } from './commands/list.ts'
import { applyEnvironment, describeOption, type Environment } from './options/variable-option.ts'
import { describeFailure, HELP_HINT } from './output/failure.ts'
import { type ExitCode, type Streams, Terminal } from './terminal.ts'

/**
 * Runs the command line. All that it reads and writes is passed in, so that a test can call it.
 *
 * @param argv The arguments of the command, without the paths of Node and the script.
 * @param env The variables of the options.
 * @param streams Its input, its outputs and its signals, such as `process`.
 * @returns The exit code, after all output is written: 0 success, 1 failure, 2 wrong usage, above 128 ended by a
 *   signal.
 */
export async function run(argv: readonly string[], env: Environment, streams: Streams): Promise<ExitCode> {
  const terminal = new Terminal(streams, env)
  const exitCode = await runCommand(argv, env, terminal).catch(error => fail(error, terminal))
  return await terminal.close().then(
    () => exitCode,
    // An output failed, so only the exit code can tell it.
    () => exitCode || 1,
  )
}

async function runCommand(argv: readonly string[], env: Environment, terminal: Terminal): Promise<ExitCode> {
  let exitCode = 0
  const program = createProgram(terminal)
  for (const listed of COMMANDS) addCommand(program, listed)
  program.hook('preSubcommand', async (_, command) => {
    const listed = COMMANDS.find(({ name }) => name === command.name())
    if (!listed) return
    const { options, notes, parseArgument, run } = await listed.load()
    for (const option of options()) command.addOption(option)
    if (notes) command.addHelpText('after', `\n${notes}`)
    if (parseArgument) command.registeredArguments[0]?.argParser(parseArgument)
    command.action(async () => {
      exitCode = await run(terminal, command.opts() as never, ...(command.processedArgs as never[]))
    })
  })
  program.hook('preAction', (_, command) => applyEnvironment(command, env))
  await program.parseAsync(withoutHelpCommand(argv), { from: 'user' })
  return exitCode
}

function createProgram(terminal: Terminal): Program {
  const { version } = createRequire(import.meta.url)('workspace-usage/package.json') as { version: string }
  const width = ({ isTTY, columns }: Terminal['stdout']) => (isTTY ? columns : undefined)
  return new Program('workspace-usage')
    .description('Know when each workspace was last used: marks in PostgreSQL, flushed by a pg-boss job.')
    .version(version)
    .addHelpText('after', '\nExit codes: 0 success, 1 failure, 2 wrong usage, 130 and 143 ended by a signal.')
    .exitOverride()
    .showHelpAfterError(HELP_HINT)
    .configureHelp({ optionDescription: describeOption })
    .configureOutput({
      writeOut: text => terminal.stdout.write(text),
      writeErr: text => terminal.tell(text.replace(/\n$/, '')),
      getOutHelpWidth: () => width(terminal.stdout) as number,
      getErrHelpWidth: () => width(terminal.stderr) as number,
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    })
}

function addCommand(program: Program, { name, description, argument, secondArgument }: ListedCommand): void {
  const command: Command = program.command(name).description(description)
  if (argument) command.argument(argument.syntax, argument.description)
  if (secondArgument) command.argument(secondArgument.syntax, secondArgument.description)
}

/** Turns `help status` into `status --help`, because that loads the options of the command. */
function withoutHelpCommand(argv: readonly string[]): string[] {
  const [first, ...rest] = argv
  return first === 'help' && rest.length > 0 ? [...rest, '--help'] : [...argv]
}

function fail(error: unknown, terminal: Terminal): ExitCode {
  // Commander has already printed its text. Help and version also come here, with exit code 0.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2
  const { text, exitCode } = describeFailure(error)
  terminal.tell(`error: ${text}`)
  return exitCode
}
