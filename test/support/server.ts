import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { atEnd } from './at-end.ts'
import { TEST_SETTINGS } from './settings.ts'

/** Starts a server for this test file alone, to crash, restart or follow. It is stopped at the file's end. */
export async function startServer(): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({ settings: TEST_SETTINGS })
  atEnd(() => server.stop())
  return server
}
