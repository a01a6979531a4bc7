/** One thing that the suite measures, in a file of its own in `bench/measures/`. */
export interface Measure {
  /** Its name on the command line, such as `flush`. */
  name: string
  /** What it measures, as the heading of its table. */
  title: string
  /** A program without which all of it is skipped. */
  needs?: Program
  /** Whether it takes too long for the usual run. It runs with `--long`, or by its name. */
  long?: boolean
  run(stage: Stage): Promise<Result>
}

/** A program that may be missing on a machine. */
export type Program = 'pgbench' | 'redis-server'

/** What a measure finds. All measures share it, one after the other. */
export interface Stage {
  /** Connection string of the server, as a role that may create databases. */
  server: string
  /** The server's major version. */
  major: number
  /** Tells the user what is being done. */
  progress(step: string): void
  /**
   * Connection string of a migrated database with `workspaces` rows of `workspaces`, and a table `shuffled (place, id)`
   * of them in random order: places 1 to `workspaces`. Leave no pending marks behind.
   */
  million: string
  /** The number of workspaces in it: 1,000,000, or what `--workspaces` says. */
  workspaces: number
  /** A number that is meant for a million workspaces, made smaller in proportion. At least `least`, default 1. */
  scaled(number: number, least?: number): number
}

/** What a measure found. */
export interface Result {
  rows: Row[]
  /** What limits it, and what the others have that we have not: one or a few sentences. */
  limits: string
  targets: Target[]
  /** Why all of it was not measured (then there are no rows), or a part of it. */
  skipped?: string
  chart?: ChartSpec
}

/** One line of a table. */
export interface Row {
  label: string
  /** Such as `marks/s`, `ms` or `bytes`. */
  unit: string
  median: number
  min: number
  max: number
  runs: number
  note?: string
  /** Its ratio is to the first row of the same unit and group. Default: all rows are one group. */
  group?: string
}

/** What was promised. Whether it is met follows from `value` and `limit`. */
export interface Target {
  text: string
  value: number
  limit: number
  /** True: `value` must be at most `limit`. False: at least. */
  atMost: boolean
  unit?: string
}

/** A picture of the result. */
export interface ChartSpec {
  kind: 'bar' | 'line'
  title: string
  subtitle?: string
  /** Name and unit of the values. */
  unit: string
  log?: boolean
  categories: string[]
  /** Null leaves a value out. */
  series: { name: string; values: (number | null)[] }[]
  /** It is written to `bench/charts/<file>.svg`. */
  file: string
}

/** Median, least and greatest of some runs. */
export interface Summary {
  median: number
  min: number
  max: number
  runs: number
}

/**
 * Runs each subject once per round, and reverses the order after each round. So other work of the machine affects all
 * subjects alike.
 *
 * @param warmUps Rounds before those that count. Default: none.
 */
export async function alternate<Name extends string>(
  rounds: number,
  subjects: Record<Name, () => Promise<number>>,
  { warmUps = 0 }: { warmUps?: number } = {},
): Promise<Record<Name, Summary>> {
  const names = Object.keys(subjects) as Name[]
  const values = new Map<Name, number[]>(names.map(name => [name, []]))
  await inTurn(warmUps, names, name => subjects[name]())
  await inTurn(rounds, names, async name => values.get(name)!.push(await subjects[name]()))
  return Object.fromEntries(names.map(name => [name, summary(values.get(name)!)])) as Record<Name, Summary>
}

/** Runs something for each name once per round, and reverses the order after each round. */
export async function inTurn<Name extends string>(
  rounds: number,
  names: readonly Name[],
  run: (name: Name) => Promise<unknown>,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed()) await run(name)
  }
}

/** Of an even number of values, the median is the mean of the two in the middle. */
export function summary(values: readonly number[]): Summary {
  if (values.length === 0) throw new RangeError('there is no median of no values')
  const sorted = values.toSorted((one, other) => one - other)
  const middle = (sorted.length - 1) / 2
  return {
    median: (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2,
    min: sorted[0]!,
    max: sorted.at(-1)!,
    runs: sorted.length,
  }
}

/** A line of a table. */
export function row(label: string, unit: string, { median, min, max, runs }: Summary, note?: string): Row {
  return { label, unit, median, min, max, runs, ...(note !== undefined && { note }) }
}

/** A target that a value must reach. */
export function atLeast(text: string, value: number, limit: number, unit?: string): Target {
  return { text, value, limit, atMost: false, ...(unit !== undefined && { unit }) }
}

/** A target that a value must not exceed. */
export function atMost(text: string, value: number, limit: number, unit?: string): Target {
  return { text, value, limit, atMost: true, ...(unit !== undefined && { unit }) }
}

/** Whether a target is met. A value that is no number meets none. */
export function isMet({ value, limit, atMost }: Target): boolean {
  return atMost ? value <= limit : value >= limit
}
