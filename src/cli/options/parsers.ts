import { InvalidArgumentError } from 'commander'
import type { Allowed } from '../../options.ts'

/*
 * Parsers of options. Each uses the rule of the function that takes the value. So a flag allows what the function
 * allows, and its error uses the same words.
 */

/** Parses a plain number. `2k` is refused. */
export function numberAllowedBy(rule: Allowed): (text: string) => number {
  return text => {
    const value = text.trim() === '' ? Number.NaN : Number(text)
    assertAllowed(rule, value)
    return value
  }
}

/** Takes a text as it is. */
export function textAllowedBy(rule: Allowed): (text: string) => string {
  return text => {
    assertAllowed(rule, text)
    return text
  }
}

/** Parses `yes` or `no`. */
export function yesOrNo(text: string): boolean {
  if (text !== 'yes' && text !== 'no') throw new InvalidArgumentError('Allowed: yes, no.')
  return text === 'yes'
}

/**
 * @param words What is allowed, if the flag has other units than the rule.
 * @throws {InvalidArgumentError} If the rule does not allow the value. commander adds the flag to the text.
 */
export function assertAllowed(rule: Allowed, value: unknown, words = rule.words): void {
  if (!rule.accepts(value)) throw new InvalidArgumentError(`Allowed: ${words}.`)
}
