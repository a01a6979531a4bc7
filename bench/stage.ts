import pg from 'pg'
import { startEmbeddedPostgres } from '../dev/postgres/embedded-postgres.ts'
import type { Stage } from './measure.ts'
import { createWorkspaces, withBenchDatabase } from './support/database.ts'

/** The number of workspaces for which the targets are meant. */
export const MILLION = 1_000_000

/** Starts a server, or takes that of DATABASE_URL, and fills a database. Both are gone afterwards. */
export async function withStage<T>(
  { workspaces, progress }: { workspaces: number; progress(step: string): void },
  run: (stage: Omit<Stage, 'progress'>) => Promise<T>,
): Promise<T> {
  await using own = process.env.DATABASE_URL ? undefined : await startEmbeddedPostgres()
  const server = own?.connectionString ?? process.env.DATABASE_URL!
  const major = await majorVersion(server)
  return await withBenchDatabase(server, async million => {
    progress(`creating ${workspaces.toLocaleString('en')} workspaces`)
    await createWorkspaces(million, workspaces)
    const scaled = (number: number, least = 1) =>
      Math.max(least, Math.round((number * Math.min(workspaces, MILLION)) / MILLION))
    return await run({ server, major, million, workspaces, scaled })
  })
}

async function majorVersion(server: string): Promise<number> {
  const client = new pg.Client({ connectionString: server })
  await client.connect()
  try {
    const { rows } = await client.query<{ server_version_num: string }>('SHOW server_version_num')
    return Math.floor(Number(rows[0]!.server_version_num) / 10_000)
  } finally {
    await client.end()
  }
}
