/*
 * The program that owns an embedded PostgreSQL, started by embedded-postgres.ts in a session of its own: a
 * Ctrl-C in the terminal reaches the program that uses the database, and not the database, so that program
 * can finish what it has in hand. When that program ends, in whatever way, the channel between the two
 * closes, and PostgreSQL is stopped and its directory removed.
 */

import { EmbeddedPostgresError, type EmbeddedPostgresFailure } from './embedded-postgres-error.ts'
import { EmbeddedServer, type ServerOptions } from './embedded-server.ts'
import type { ShutdownMode } from './postmaster.ts'

/** What the program asks for; answered in order. */
export type SupervisorRequest =
  | { id: number; action: 'create'; options: ServerOptions }
  | { id: number; action: 'start' }
  | { id: number; action: 'stop'; mode: ShutdownMode }
  | { id: number; action: 'remove' }

/** Facts about a server that is running. */
export interface ServerFacts {
  port: number
  password: string
  dataDirectory: string
  logFile: string
}

/**
 * The answer to the request of the same `id`. `facts` is null once the server is removed; the supervisor then
 * ends.
 */
export type SupervisorAnswer =
  | { id: number; facts: ServerFacts | null }
  | { id: number; failure: EmbeddedPostgresFailure }

let server: EmbeddedServer | undefined
let lastTurn: Promise<void> = Promise.resolve()

// Not "node …": whoever kills all of those still has PostgreSQL stopped. (It also says in `ps` what this is.)
process.title = 'workspace-usage: owner of an embedded PostgreSQL'

process.on('message', (request: SupervisorRequest) =>
  inTurn(async () => {
    try {
      await answer({ id: request.id, facts: await perform(request) })
      if (request.action === 'remove') process.disconnect()
    } catch (error) {
      await answer({ id: request.id, failure: asFailure(error) })
    }
  }),
)
process.on('disconnect', end)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, end)
process.on('exit', () => server?.abandon())
// The program may have ended before we listened.
if (!process.connected) end()

async function perform(request: SupervisorRequest): Promise<ServerFacts | null> {
  switch (request.action) {
    case 'create':
      server = await EmbeddedServer.create(request.options)
      await server.start()
      break
    case 'start':
      await server?.start()
      break
    case 'stop':
      await server?.stop(request.mode)
      break
    case 'remove':
      await server?.remove()
      server = undefined
  }
  if (server === undefined) return null
  const { port, password, directory } = server
  return { port, password, dataDirectory: directory.data, logFile: directory.log }
}

function end(): void {
  inTurn(async () => {
    await server?.remove()
    process.exit()
  })
}

// One at a time, for a program may end while its server is being made.
function inTurn(work: () => Promise<void>): void {
  lastTurn = lastTurn.then(work)
}

// Resolves when the message is out. The program may be gone; then there is nobody to tell.
function answer(message: SupervisorAnswer): Promise<void> {
  return new Promise(resolve => {
    if (process.connected) process.send?.(message, undefined, undefined, () => resolve())
    else resolve()
  })
}

function asFailure(error: unknown): EmbeddedPostgresFailure {
  if (error instanceof EmbeddedPostgresError) return { ...error }
  return {
    step: 'supervise',
    reason: String(error),
    logTail: error instanceof Error ? (error.stack ?? '') : '',
  }
}
