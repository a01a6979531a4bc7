import { startServer } from './server.ts'
import { SERVER_VARIABLE } from './settings.ts'

let server: Promise<string> | undefined

/** Connection string of the server for this file's tests: the runner's, `DATABASE_URL`, or one started for them. */
export function testServer(): Promise<string> {
  server ??= Promise.resolve(process.env[SERVER_VARIABLE] || process.env.DATABASE_URL || startOwn())
  return server
}

async function startOwn(): Promise<string> {
  return (await startServer()).connectionString
}
