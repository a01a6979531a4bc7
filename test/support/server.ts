import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'
import { atEnd } from './at-end.ts'
import { programsOfRun } from './programs-of-run.ts'
import { TEST_SETTINGS } from './settings.ts'

/**
 * Starts a server for this test file alone, to crash, restart or follow. It is stopped at the file's end.
 * @param settings beside those of all tests
 */
export async function startServer(settings: Record<string, string> = {}): Promise<EmbeddedPostgres> {
  const server = await startEmbeddedPostgres({
    ...programsOfRun(),
    settings: { ...TEST_SETTINGS, ...settings },
  })
  atEnd(() => server.stop())
  return server
}
