import { startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { atEnd } from './at-end.ts'
import { SERVER_VARIABLE, TEST_SETTINGS } from './settings.ts'

let server: Promise<string> | undefined

/**
 * Connection string of the server for this file's tests: the runner's, or `DATABASE_URL`, or one started for
 * them.
 */
export function testServer(): Promise<string> {
  server ??= Promise.resolve(process.env[SERVER_VARIABLE] || process.env.DATABASE_URL || startOwn())
  return server
}

async function startOwn(): Promise<string> {
  const own = await startEmbeddedPostgres({ settings: TEST_SETTINGS })
  atEnd(() => own.stop())
  return own.connectionString
}
