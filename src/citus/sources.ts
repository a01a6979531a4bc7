import { sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import type { Connection } from '../database/connection.ts'
import { namedSources, noteSources } from '../flush/source-usage.ts'
import type { FlushCounts } from '../flush/statement.ts'

/*
 * `source_usage` is on the coordinator alone. Citus could keep it on each node, but then no flush could commit while one
 * of the nodes is down.
 */

/** The sources whose marks do not count. */
export async function ignoredSources(coordinator: Connection): Promise<string[]> {
  const { rows } = await executeSql(
    coordinator,
    sql<{ sources: string }>`
      SELECT array_to_json(ARRAY (SELECT source FROM source_usage WHERE NOT counts))::text AS sources`,
  )
  return JSON.parse(rows[0]!.sources) as string[]
}

/** Notes which sources the marks came from, as the flush of a single server does in its statement. */
export async function noteSourcesOf(coordinator: Connection, counts: readonly FlushCounts[]): Promise<void> {
  const marks = counts.flatMap(({ sources = [] }) => sources)
  if (marks.length === 0) return
  await executeSql(
    coordinator,
    sql`
      WITH by_fate AS MATERIALIZED (
        SELECT source COLLATE "C" AS source, fate, marks, first_end, last_end
        FROM json_to_recordset(${JSON.stringify(marks)}::json)
          AS used (source text, fate text, marks bigint, first_end timestamptz, last_end timestamptz)
      ),
      ${namedSources},
      ${noteSources}
      SELECT`,
  )
}
