import { sql } from 'kysely'
import { executeSql } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { LONGEST_GAP, MOST_SOURCES } from '../flush/source-usage.ts'
import type { FlushCounts } from '../flush/statement.ts'

/**
 * Notes in `source_usage` which sources the marks came from, as the flush of a single server does in its statement. The
 * table is on each node. If one of them is out of reach, or another flush is writing, the next flush catches up.
 */
export async function noteSourcesOf(coordinator: Connection, counts: readonly FlushCounts[]): Promise<void> {
  const marks = counts.flatMap(({ sources = [] }) => sources)
  if (marks.length === 0) return
  await execute(coordinator, { sql: 'SAVEPOINT usage_sources', parameters: [] })
  try {
    const { rows } = await executeSql(
      coordinator,
      sql<{ source: string }>`SELECT source::text AS source FROM source_usage`,
    )
    const known = new Set(rows.map(({ source }) => source))
    const added = [...new Set(marks.map(({ source }) => source))].filter(source => !known.has(source))
    const noted = new Set([...known, ...added.toSorted().slice(0, Math.max(0, MOST_SOURCES - known.size))])
    await executeSql(coordinator, note(marks.filter(({ source }) => noted.has(source))))
  } catch {
    await execute(coordinator, { sql: 'ROLLBACK TO SAVEPOINT usage_sources', parameters: [] })
  }
}

const note = (marks: readonly object[]) => sql`
  INSERT INTO source_usage AS s (source, regular_since, last_used_at)
  SELECT source, min(first_end), max(last_end)
  FROM json_to_recordset(${JSON.stringify(marks)}::json)
    AS used (source text, first_end timestamptz, last_end timestamptz)
  GROUP BY source ORDER BY source
  ON CONFLICT (source) DO UPDATE SET
    last_used_at = greatest(s.last_used_at, excluded.last_used_at),
    regular_since = CASE
      WHEN excluded.regular_since - s.last_used_at > ${LONGEST_GAP} THEN excluded.regular_since
      ELSE least(s.regular_since, excluded.regular_since)
    END
  WHERE s.last_used_at < excluded.last_used_at
    OR excluded.regular_since < s.regular_since AND s.regular_since - excluded.last_used_at <= ${LONGEST_GAP}`
