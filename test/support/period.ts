import type { Queryable } from '../../src/database/connection.ts'

/**
 * Gives the periods of a database another length, in seconds (`0.1` works). Every mark after this falls into
 * such a period; marks already stored keep theirs.
 */
export async function setPeriodLength(db: Queryable, seconds: number): Promise<void> {
  const { rows } = await db.query(
    `SELECT pg_get_functiondef('usage_period_end()'::regprocedure) AS definition`,
  )
  const { definition } = rows[0] as { definition: string }
  // The migration's own definition, so that a test can't pass on another one.
  const changed = definition.replace(/ \/ [\d.]+\) \+ 1\) \* [\d.]+/, ` / ${seconds}) + 1) * ${seconds}`)
  if (!changed.includes(` * ${seconds}`)) {
    throw new Error(`the length of a period was not found in the definition:\n${definition}`)
  }
  await db.query(changed)
}
