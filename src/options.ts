import { closestMatch } from 'leven'
import { InvalidOptionError, UnknownOptionError } from './errors.ts'

/*
 * The rules of all options. Functions check their options object by them. The command line checks its flags by the same
 * rules, so its errors use the same words.
 */

/** What an option may be. */
export interface Allowed {
  /** The rule in words, with the unit. They follow "Allowed: " in an error. */
  readonly words: string
  /** The ends of a range. The command line puts them into the units of its flags. */
  readonly range?: readonly [least: number, most: number]
  accepts(value: unknown): boolean
}

/** The rule of every option of an options type. */
export type OptionRules<Options> = { readonly [Name in keyof Required<Options>]: Allowed }

/** An integer from `least` to `most`, of a unit such as `seconds`. */
export function integerWithin(least: number, most: number, unit?: string): Allowed {
  const within = numberWithin(least, most, unit)
  return {
    ...within,
    words: `an integer from ${within.words}`,
    accepts: value => Number.isInteger(value) && within.accepts(value),
  }
}

/** A number from `least` to `most`, of a unit such as `seconds`. */
export function numberWithin(least: number, most: number, unit?: string): Allowed {
  return {
    words: `${least} to ${most}${unit === undefined ? '' : ` ${unit}`}`,
    range: [least, most],
    accepts: value => typeof value === 'number' && value >= least && value <= most,
  }
}

/** One of a few values. */
export function oneOf(...values: readonly (string | boolean)[]): Allowed {
  return { words: values.join(', '), accepts: value => values.some(allowed => allowed === value) }
}

/** A rule of its own: any words, any check. */
export function whatever(words: string, accepts: (value: unknown) => boolean): Allowed {
  return { words, accepts }
}

export const YES_OR_NO = oneOf(true, false)

/** An object with the methods of `Logger`. */
export const A_LOGGER = hasMethods('a pino logger, or an object with its methods debug, info, warn, error', [
  'debug',
  'info',
  'warn',
  'error',
])

/** An object with these methods. */
export function hasMethods(words: string, methods: readonly string[]): Allowed {
  const accepts = (value: unknown) => methods.every(name => typeof Object(value)[name] === 'function')
  return { words, accepts }
}

/**
 * Checks the options of a function. An option that is undefined counts as left out.
 *
 * @param required The options that must not be left out. Default: none.
 * @throws {UnknownOptionError} If there is no rule for an option. The error names the nearest option.
 * @throws {InvalidOptionError} If an option is not what its rule allows, if a required one is left out, or if
 *   `options` is not an object.
 */
export function checkOptions<Options extends object>(
  options: Options,
  rules: OptionRules<Options>,
  required: readonly (keyof Options & string)[] = [],
): void {
  if (typeof options !== 'object' || options === null) {
    throw new InvalidOptionError('options', options, 'an object')
  }
  const known = Object.keys(rules)
  for (const [option, value] of Object.entries(options)) {
    if (!Object.hasOwn(rules, option)) throw new UnknownOptionError(option, known, nearest(option, known))
    if (value !== undefined) checkOption(option, value, rules[option as keyof Options])
  }
  for (const option of required) checkOption(option, options[option], rules[option])
}

/** @throws {InvalidOptionError} If the value is not what the rule allows. */
export function checkOption(option: string, value: unknown, allowed: Allowed): void {
  if (!allowed.accepts(value)) throw new InvalidOptionError(option, value, allowed.words)
}

function nearest(option: string, known: readonly string[]): string | undefined {
  return closestMatch(option, known, { maxDistance: Math.max(2, Math.floor(option.length / 3)) })
}
