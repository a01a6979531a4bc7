import type { Kysely } from 'kysely'
import { createActivityViews } from '../src/schema/activity-views.ts'
import { marksSchema } from './0007_readers_see_all_or_an_error.ts'

/**
 * The views find the periods of pending marks in a shorter way. What they show is the same.
 *
 * A query of a view was planned with all of pending_usage_period, which is there for the few moments with many dead
 * marks. For a lookup of one workspace that was a third of the time. Now it is behind a function, which is called in
 * those moments only.
 */
export async function up(db: Kysely<never>): Promise<void> {
  await createActivityViews(db, await marksSchema(db))
}

/** Nothing: the views are always written in today's form, which migration 0014 can drop. */
export async function down(): Promise<void> {}
