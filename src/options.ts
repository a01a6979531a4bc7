import { closestMatch } from 'leven'
import { InvalidOptionError, UnknownOptionError } from './errors.ts'

/*
 * What an option may be, written once: functions check their options object by it, and the command line its flags.
 */

/** What an option may be. */
export interface Allowed {
  /** In words, with the unit: ends the sentence "Allowed: …". */
  readonly words: string
  accepts(value: unknown): boolean
}

/** The rule of every option of an options type. */
export type OptionRules<Options> = { readonly [Name in keyof Required<Options>]: Allowed }

/** An integer from `least` to `most`, of a unit such as `seconds`. */
export function integerWithin(least: number, most: number, unit?: string): Allowed {
  return {
    words: `an integer from ${least} to ${most}${unitOf(unit)}`,
    accepts: value => Number.isInteger(value) && isWithin(value, least, most),
  }
}

/** A number from `least` to `most`, of a unit such as `seconds`. */
export function numberWithin(least: number, most: number, unit?: string): Allowed {
  return { words: `${least} to ${most}${unitOf(unit)}`, accepts: value => isWithin(value, least, most) }
}

/** One of a few values. */
export function oneOf(...values: readonly (string | boolean)[]): Allowed {
  return { words: values.join(', '), accepts: value => values.some(allowed => allowed === value) }
}

/** What `accepts` takes; its type promises the words. */
export function whatever(words: string, accepts: (value: unknown) => boolean): Allowed {
  return { words, accepts }
}

export const YES_OR_NO = oneOf(true, false)

/** Somebody to tell: has the methods of `Logger`. */
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
 * Checks the options of a function. One that is undefined counts as left out.
 *
 * @throws {UnknownOptionError} If there is no rule for one of them; it names the nearest.
 * @throws {InvalidOptionError} If one of them is not what its rule allows, or they are no object.
 */
export function checkOptions<Options extends object>(options: Options, rules: OptionRules<Options>): void {
  if (typeof options !== 'object' || options === null) {
    throw new InvalidOptionError('options', options, 'an object')
  }
  const known = Object.keys(rules)
  for (const [option, value] of Object.entries(options)) {
    if (!Object.hasOwn(rules, option)) throw new UnknownOptionError(option, known, nearest(option, known))
    if (value !== undefined) checkOption(option, value, rules[option as keyof Options])
  }
}

/** @throws {InvalidOptionError} If the value is not what the rule allows. */
export function checkOption(option: string, value: unknown, allowed: Allowed): void {
  if (!allowed.accepts(value)) throw new InvalidOptionError(option, value, allowed.words)
}

function nearest(option: string, known: readonly string[]): string | undefined {
  return closestMatch(option, known, { maxDistance: Math.max(2, Math.floor(option.length / 3)) })
}

function isWithin(value: unknown, least: number, most: number): boolean {
  return typeof value === 'number' && value >= least && value <= most
}

function unitOf(unit: string | undefined): string {
  return unit === undefined ? '' : ` ${unit}`
}
