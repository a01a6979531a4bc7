/*
 * A program with an embedded PostgreSQL: `embedded.ts OPTIONS ENDING`. Prints where the server is, or why
 * there is none, as a line of JSON. Then it ends as told (`return` or `throw`), or waits for a signal
 * (`wait`); at SIGINT it uses the database once more. It never stops the server.
 */

import { startEmbeddedPostgres } from '../../dev/postgres/embedded-postgres.ts'

const [, , options = '{}', ending = 'return'] = process.argv

process.once('SIGINT', async () => {
  const { default: pg } = await import('pg')
  const client = new pg.Client(server.connectionString)
  await client.connect()
  // Long enough that a server which also got the signal would be shutting down.
  await client.query('SELECT pg_sleep(0.3)')
  await client.end()
  console.log('flushed')
  process.exit(0)
})

const server = await startEmbeddedPostgres(JSON.parse(options)).catch(error => {
  console.log(JSON.stringify({ name: error.name, ...error }))
  process.exit(1)
})
console.log(JSON.stringify(server))

if (ending === 'throw') throw new Error('uncaught')
if (ending === 'wait') setInterval(() => {}, 1000)
