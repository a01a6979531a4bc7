import type { TestDatabase } from './database.ts'

/** Stops every statement on `pending_usage`, by a lock of the table, until the gate is opened. */
export async function closeMarkGate(database: TestDatabase): Promise<MarkGate> {
  const keeper = await database.connect()
  await keeper.query('BEGIN; LOCK TABLE pending_usage IN ACCESS EXCLUSIVE MODE')
  return {
    open: async () => {
      await keeper.query('COMMIT')
    },
    [Symbol.asyncDispose]: () => keeper.end(),
  }
}

/** See {@link closeMarkGate}. The end of an `await using` block opens it as well. */
export interface MarkGate extends AsyncDisposable {
  /** Lets all statements through, those that wait and those that come later. */
  open(): Promise<void>
}
