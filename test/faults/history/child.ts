/*
 * One process of the history check: a writer, a host or a worker. It is told its part by its first argument, says what
 * it does over IPC, and ends in order when it is told to.
 */

import { once } from 'node:events'
import { runHost } from './host.ts'
import type { Message, Part } from './messages.ts'
import { Universe } from './universe.ts'
import { runWorker } from './worker.ts'
import { runWriter } from './writer.ts'

const part = JSON.parse(process.argv[2]!) as Part

/** What was handed to the channel before it is told as well, because the channel keeps the order. */
const report = (message: Message): Promise<void> =>
  new Promise((resolve, reject) => {
    if (!process.connected) return resolve()
    process.send!(message, (error: Error | null) => (error ? reject(error) : resolve()))
  })

process.on('unhandledRejection', reason => void report({ type: 'unhandled', text: String(reason) }))
process.on('uncaughtException', error => void report({ type: 'unhandled', text: String(error.stack) }))
process.on('warning', warning => void report({ type: 'unhandled', text: String(warning) }))
// If the check itself is killed, nothing of it stays behind.
process.once('disconnect', () => process.exit(1))

const stopping = new AbortController()
const told = once(process, 'message').then(() => stopping.abort())
const universe = new Universe(part.universe)
const run = { writer: runWriter, host: runHost, worker: runWorker }[part.role]
await run({ ...part, report, signal: stopping.signal, universe })
await told
process.removeAllListeners('disconnect')
process.disconnect()
