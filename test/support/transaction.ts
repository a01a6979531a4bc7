import type pg from 'pg'
import type { TestDatabase } from './database.ts'

/** A transaction on a connection of its own. */
export interface OpenTransaction extends AsyncDisposable {
  client: pg.Client & { processID: number }
}

/** Begins a transaction, which is rolled back with the scope of `await using` unless the test has ended it. */
export async function openTransaction(database: TestDatabase): Promise<OpenTransaction> {
  const client = await database.connect()
  await client.query('BEGIN')
  return { client, [Symbol.asyncDispose]: () => client.end() }
}
