import { sql } from 'kysely'
import { compile } from '../database/compile.ts'
import { type Connection, execute, type Statement } from '../database/connection.ts'
import { JOB_SCHEMA } from './queue.ts'

/*
 * A run that was killed leaves a command of pg-boss "in_progress", for which pg-boss waits five minutes. A command that
 * failed is repeated by pg-boss after all others. That is too late if a later one drops what it builds. So both are
 * handed back as if they had never begun, and pg-boss runs all of them in their order.
 */

interface Interrupted {
  id: string
  command: string
}

/**
 * Hands back the commands that nobody runs any more. A build holds a lock on the table from its beginning to its end.
 * The ten seconds are for a pg-boss of the host that has chosen a command and not sent it yet.
 *
 * @param connection Not in a transaction.
 * @param since Commands that have failed since this time stay failed.
 */
export async function handBackInterrupted(connection: Connection, since: string): Promise<void> {
  const statement: Statement<Interrupted> = {
    sql: `SELECT id::text, command FROM ${JOB_SCHEMA}.bam
      WHERE status = 'failed' AND (completed_on IS NULL OR completed_on < $1::timestamptz)
        OR status = 'in_progress' AND started_on < clock_timestamp() - interval '10 seconds' AND NOT EXISTS (
          SELECT FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
          WHERE l.locktype = 'relation' AND l.mode = 'ShareUpdateExclusiveLock'
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND c.relname = bam.table_name AND c.relnamespace = '${JOB_SCHEMA}'::regnamespace)`,
    parameters: [since],
  }
  const { rows } = await execute(connection, statement)
  for (const { id, command } of rows) await handBack(connection, id, builtIndex(command))
}

/** A command may have ended, and its process before it could note that. Some commands fail if they are run twice. */
async function handBack(connection: Connection, id: string, index: string | null): Promise<void> {
  const valid = index === null ? null : await isValid(connection, index)
  if (index !== null && valid === false) {
    await execute(connection, compile(sql`DROP INDEX CONCURRENTLY IF EXISTS ${sql.id(JOB_SCHEMA, index)}`))
  }
  await execute(connection, {
    sql: valid
      ? `UPDATE ${JOB_SCHEMA}.bam SET status = 'completed', completed_on = clock_timestamp(), error = NULL WHERE id = $1`
      : `UPDATE ${JOB_SCHEMA}.bam SET status = 'pending', started_on = NULL, completed_on = NULL WHERE id = $1`,
    parameters: [id],
  })
}

/** The index that a command builds. Null if it does something else. */
function builtIndex(command: string): string | null {
  const built = /CREATE\s+(?:UNIQUE\s+)?INDEX\s+CONCURRENTLY\s+(?:IF\s+NOT\s+EXISTS\s+)?"?([\w$]+)"?/i.exec(
    command,
  )
  return built?.[1] ?? null
}

/** Null if there is no such index. */
async function isValid(connection: Connection, index: string): Promise<boolean | null> {
  const statement: Statement<{ valid: boolean }> = {
    sql: `SELECT indisvalid AS valid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
      WHERE c.relname = $1 AND c.relnamespace = '${JOB_SCHEMA}'::regnamespace`,
    parameters: [index],
  }
  return (await execute(connection, statement)).rows[0]?.valid ?? null
}
