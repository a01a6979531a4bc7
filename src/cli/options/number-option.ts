import { InvalidArgumentError } from 'commander'

/** An option's parser that takes a plain number, so that `--batch-size 2k` is wrong usage and not NaN. */
export function parseNumber(text: string): number {
  const value = Number(text)
  if (text.trim() === '' || !Number.isFinite(value))
    throw new InvalidArgumentError(`"${text}" is not a number.`)
  return value
}
