import { type RawBuilder, sql } from 'kysely'
import { IGNORED_SOURCE } from '../database/distributed.ts'
import { daysOfUse, usedDays } from '../database/used-days.ts'
import { distributedMarksOf, marksOf } from './marks-of-views.ts'

/** What the views read, in a form that the database can plan. */
export interface ViewForm {
  /** SQL of all marks: see {@link marksOf}. */
  marks: RawBuilder<unknown>
  /** The query of the days that the marks tell, up to the present. Times that mean nothing are left out. */
  daysOfMarks: RawBuilder<unknown>
  /** The query of the sources that do not count. */
  ignoredSources: RawBuilder<unknown>
  /** SQL, behind FROM, of the last uses by source, those in the history included. */
  lastUses: RawBuilder<unknown>
}

/** The form of one server. The history is a child of `workspace_usage`. */
export function plainForm(schema: string): ViewForm {
  const marks = marksOf(schema)
  return {
    marks,
    daysOfMarks: daysOfMarks(schema, marks),
    ignoredSources: sql`SELECT source FROM ${sql.id(schema, 'source_usage')} WHERE NOT counts`,
    lastUses: sql`workspace_usage`,
  }
}

const FROM = sql`mark.used_from`
const UNTIL = sql`mark.used_until`

function daysOfMarks(schema: string, marks: RawBuilder<unknown>): RawBuilder<unknown> {
  return sql`SELECT marks.workspace_id, days.day, marks.source, days.slots, days.first_used_at, days.last_used_at
      FROM (${marks}) marks
      CROSS JOIN LATERAL (
        SELECT ${useOf(schema)}
      ) mark
      CROSS JOIN LATERAL ${usedDays(FROM, UNTIL)} days
      WHERE marks.period_end > '1970-01-02 00:00:00Z'::timestamptz AND marks.period_end < 'infinity'::timestamptz`
}

function useOf(schema: string): RawBuilder<unknown> {
  return sql`least(
            coalesce(marks.used_from, marks.period_end - ${sql.id(schema, 'usage_period')}()),
            statement_timestamp()
          ) AS used_from, least(marks.period_end, statement_timestamp()) AS used_until`
}

/**
 * The form of distributed tables. Citus has no inheritance between them. Each part is of one workspace or of all of them,
 * so a query of one workspace goes to one shard, and a query of all is run on each shard.
 */
export function distributedForm(schema: string): ViewForm {
  const [own, history] = ['workspace_usage', 'workspace_usage_day'].map(name => sql.id(schema, name))
  const marks = distributedMarksOf(schema)
  return {
    marks,
    daysOfMarks: distributedDaysOfMarks(schema, marks),
    ignoredSources: sql`SELECT source FROM ${sql.id(schema, IGNORED_SOURCE)}`,
    lastUses: sql`(
        SELECT workspace_id, source, last_used_at FROM ${own}
        UNION ALL
        SELECT workspace_id, source, last_used_at FROM ${history}
      ) uses`,
  }
}

/**
 * Citus computes neither the present nor a day in a subquery without a table, nor in the arguments of a function that is
 * a table. The times are compared in a way that no index knows: the index of ids is the right one.
 */
function distributedDaysOfMarks(schema: string, marks: RawBuilder<unknown>): RawBuilder<unknown> {
  const days = daysOfUse(sql`used.used_from`, sql`used.used_until`)
  return sql`SELECT mark.workspace_id, days.day, mark.source, days.slots, days.first_used_at, days.last_used_at
      FROM (
        SELECT used.*, ${days.first} AS first_day, ${days.last} AS last_day
        FROM (
          SELECT marks.workspace_id, marks.source, ${useOf(schema)} FROM (${marks}) marks
          WHERE isfinite(marks.period_end)
        ) used
        WHERE used.used_until > '1970-01-02 00:00:00Z'::timestamptz
      ) mark
      CROSS JOIN LATERAL ${usedDays(FROM, UNTIL, { first: sql`mark.first_day`, last: sql`mark.last_day` })} days`
}
