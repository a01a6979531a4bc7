import { randomInt } from 'node:crypto'
import { parseArgs } from 'node:util'

/** What a run is told. */
export interface Options {
  minutes: number
  seed: number
  postgres: '15' | '18'
  crash: boolean
  json: boolean
}

export const HELP = `Usage: node test/faults/history.ts [options]

Marks workspaces in all ways while a host changes them, workers flush them and a
nemesis injects faults. Then it judges each mark. Exits with 1 on any violation.

Options:
  --minutes <number>  how long, from 0.1 to 600 (default: 1)
  --seed <number>     the seed of the faults, from 0 to 4294967295 (default: random)
  --postgres <15|18>  the server: the embedded 18, or Debian's 15 (default: 18)
  --crash             crash the server as well; marks that are not flushed are lost then
  --json              print the totals as JSON
  --help              print this text
`

/** The arguments are wrong. The text quotes the value and says what is allowed. */
export class ArgumentError extends Error {
  override readonly name = 'ArgumentError'
}

/** Reads the arguments. Null: print the help. @throws ArgumentError */
export function readOptions(args: string[]): Options | null {
  const { values } = parse(args)
  if (values.help) return null
  const { minutes = '1', seed = String(randomInt(2 ** 32)), postgres = '18' } = values
  if (postgres !== '15' && postgres !== '18') {
    throw new ArgumentError(`--postgres is "${postgres}"; allowed: 15 or 18`)
  }
  return {
    minutes: within('--minutes', minutes, 0.1, 600),
    seed: within('--seed', seed, 0, 2 ** 32 - 1, true),
    postgres,
    crash: values.crash ?? false,
    json: values.json ?? false,
  }
}

function parse(args: string[]) {
  try {
    return parseArgs({
      args,
      options: {
        minutes: { type: 'string' },
        seed: { type: 'string' },
        postgres: { type: 'string' },
        crash: { type: 'boolean' },
        json: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
  } catch (error) {
    throw new ArgumentError((error as Error).message)
  }
}

function within(option: string, text: string, least: number, most: number, whole = false): number {
  const value = Number(text)
  if (text.trim() !== '' && value >= least && value <= most && (!whole || Number.isInteger(value)))
    return value
  throw new ArgumentError(
    `${option} is "${text}"; allowed: a ${whole ? 'whole ' : ''}number from ${least} to ${most}`,
  )
}
