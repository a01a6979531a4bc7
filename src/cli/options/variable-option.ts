import { type Command, InvalidArgumentError, Option } from 'commander'

/** Environment variables, such as `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>

/** Other variables that can set an option. */
export interface Substitute {
  /** The variables in words, as they follow "or set". */
  readonly variables: string
  /** The value. Undefined if the variables are not set. */
  read(environment: Environment): string | undefined
}

interface VariableOptionSettings {
  needed?: boolean
  substitute?: Substitute
}

/**
 * An option that an environment variable can set as well. The command line wins. A flag also wins over the variable of
 * an option that can't be used with it. (Commander's own `env` can only read `process.env`.)
 */
export class VariableOption extends Option {
  readonly variable: string
  /** Whether the command requires the option. */
  readonly needed: boolean
  /** What stands in for the option if neither it nor its variable is set. */
  readonly substitute: Substitute | undefined

  constructor(flags: string, description: string, variable: string, settings: VariableOptionSettings = {}) {
    super(flags, description)
    this.variable = variable
    this.needed = settings.needed ?? false
    this.substitute = settings.substitute
  }
}

/** A switch that is off by default. Its variable turns it on unless it is empty, `false`, `no`, `off` or `0`. */
export function switchOption(flags: string, description: string, variable: string): VariableOption {
  const option = new VariableOption(flags, description, variable)
  option.default(false)
  return option
}

/** The text of an option in --help, with its choices, default and variable. */
export function describeOption(option: Option): string {
  const { description, argChoices, defaultValue, defaultValueDescription } = option
  const facts = [
    argChoices && `one of: ${argChoices.join(', ')}`,
    !option.isBoolean() &&
      defaultValue !== undefined &&
      `default: ${defaultValueDescription ?? defaultValue}`,
    option instanceof VariableOption && `env: ${option.variable}`,
  ].filter(fact => typeof fact === 'string')
  return facts.length === 0 ? description : `${description} (${facts.join('; ')})`
}

/**
 * Sets from the environment the options that the command line did not set.
 *
 * @throws {CommanderError} If a value is not allowed, or a required option is missing.
 */
export function applyEnvironment(command: Command, environment: Environment): void {
  const options = command.options.filter(option => option instanceof VariableOption)
  const isGiven = (option: Option) => command.getOptionValueSource(option.attributeName()) === 'cli'
  for (const option of options) {
    const text =
      isGiven(option) || rivals(option, options).some(isGiven)
        ? undefined
        : (read(option, environment) ?? option.substitute?.read(environment))
    if (text !== undefined) set(command, option, text)
    if (option.needed && command.getOptionValue(option.attributeName()) === undefined) {
      const others = option.substitute ? `, or ${option.substitute.variables}` : ''
      command.error(
        `error: required option '${option.flags}' not specified. Give it, or set the variable ${option.variable}${others}`,
      )
    }
  }
  refuseRivals(command, options)
}

const OFF = /^(false|no|off|0)$/i

/**
 * The value of the variable. Undefined if it is empty, because compose and CI pass an unset variable as an empty one.
 */
function read(option: VariableOption, environment: Environment): string | undefined {
  const text = environment[option.variable]
  return text === '' || (text !== undefined && option.isBoolean() && OFF.test(text)) ? undefined : text
}

function set(command: Command, option: VariableOption, text: string): void {
  const name = option.attributeName()
  try {
    const value = option.isBoolean() || (option.parseArg?.(text, command.getOptionValue(name)) ?? text)
    command.setOptionValueWithSource(name, value, 'env')
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error
    const told = `value '${text}' from the variable ${option.variable}`
    command.error(`error: option '${option.flags}' ${told} is invalid. ${error.message}`)
  }
}

/** The options that can't be used together with this one. */
function rivals(option: VariableOption, options: readonly VariableOption[]): VariableOption[] {
  return options.filter(
    other =>
      excludes(option).includes(other.attributeName()) || excludes(other).includes(option.attributeName()),
  )
}

/** Refuses variables that exclude each other. commander itself refuses such flags. */
function refuseRivals(command: Command, options: readonly VariableOption[]): void {
  const set = options.filter(option => command.getOptionValueSource(option.attributeName()) === 'env')
  for (const option of set) {
    const [rival] = rivals(option, set)
    if (rival)
      command.error(`error: the variables ${option.variable} and ${rival.variable} can't both be set`)
  }
}

function excludes(option: Option): readonly string[] {
  return (option as Option & { conflictsWith: string[] }).conflictsWith
}
