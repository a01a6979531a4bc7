import { after } from 'node:test'

const endings: (() => Promise<unknown> | unknown)[] = []

/**
 * Runs `ending` after all tests of this file. The endings run in reverse order, so that what was started last is ended
 * first. Use it instead of `after` in a test file, which runs later than the endings of this directory.
 */
export function atEnd(ending: () => Promise<unknown> | unknown): void {
  endings.push(ending)
}

after(async () => {
  const errors: unknown[] = []
  for (let ending = endings.pop(); ending !== undefined; ending = endings.pop()) {
    try {
      await ending()
    } catch (error) {
      errors.push(error)
    }
  }
  if (errors.length > 0) throw new AggregateError(errors, `after the tests: ${errors.join('; ')}`)
})
