import { after } from 'node:test'

const endings: (() => Promise<unknown> | unknown)[] = []

/**
 * Has `ending` run when all tests of this file are done, last come, first run: what was started on top of
 * something is ended before it. Use it in place of a file's own `after`, which runs later than the endings of
 * this directory.
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
