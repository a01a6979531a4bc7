import { type Kysely, sql } from 'kysely'
import { marksSchema } from './0007_readers_see_all_or_an_error.ts'

/**
 * Held and awaited marks wait in a queue each. In one queue, ten million marks of ids that do not exist kept held marks
 * waiting for minutes after their workspace was free.
 */
export async function up(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  await waitBriefly(db)
  for (const reason of ['held', 'awaited']) {
    await sql`
      CREATE INDEX ${sql.id(`set_aside_usage_${reason}`)} ON ${sql.id(schema, 'set_aside_usage')} (next_attempt_at)
      WHERE reason = ${sql.lit(reason)}
    `.execute(db)
  }
  await sql`DROP INDEX ${sql.id(schema, 'set_aside_usage_next_attempt')}`.execute(db)
}

export async function down(db: Kysely<never>): Promise<void> {
  const schema = await marksSchema(db)
  await waitBriefly(db)
  await sql`
    CREATE INDEX set_aside_usage_next_attempt ON ${sql.id(schema, 'set_aside_usage')} (next_attempt_at)
    WHERE reason <> 'refused'
  `.execute(db)
  for (const reason of ['held', 'awaited']) {
    await sql`DROP INDEX ${sql.id(schema, `set_aside_usage_${reason}`)}`.execute(db)
  }
}

/** Flushes wait for the change of an index. */
async function waitBriefly(db: Kysely<never>): Promise<void> {
  await sql`SET LOCAL lock_timeout = '5s'`.execute(db)
}
