import type { TestDatabase } from './database.ts'
import { type Program, startProgram } from './process.ts'

/** Starts `workspace-usage worker` on a database as a process of its own. It flushes every second. */
export function startWorkerProcess({ connectionString }: TestDatabase): Program {
  return startProgram('src/cli/main.ts', ['worker', '--flush-interval', '1'], {
    env: { DATABASE_URL: connectionString },
  })
}
