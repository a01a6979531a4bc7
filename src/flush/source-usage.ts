import { type RawBuilder, sql } from 'kysely'

/** The most sources that are told apart in the counts of a flush. */
export const MOST_COUNTED_SOURCES = 20

/** What the counts call all further sources. */
const OTHER = 'other'

/** The most rows of `source_usage`. Who has more sources than that uses something else as a source, such as an id. */
export const MOST_SOURCES = 1_000

/** A source is regular as long as no gap between its uses is longer. */
export const LONGEST_GAP = sql`interval '1 hour'`

/** What `named` has in a column for the source of a row. It is one row, so a join with it costs nothing. */
function ofSource(column: 'first_end' | 'last_end'): RawBuilder<unknown> {
  return sql`${sql.id(column)}[width_bucket(s.source, sources)]`
}

/** The marks of a source that have the same fate. */
export interface MarksOfSource {
  source: string
  fate: string
  marks: number
  /** The first and the last end of their periods, as PostgreSQL writes them in JSON. */
  first_end: string
  last_end: string
}

/** SQL of {@link MarksOfSource} in JSON. More sources than are ever on record are left out. */
export const marksOfSources = sql`(
      SELECT coalesce(json_agg(row_to_json(used)), '[]')
      FROM (SELECT * FROM by_fate ORDER BY last_end DESC LIMIT ${MOST_SOURCES}) AS used
    )`

/** Part of the flush statement: the sources of its marks. */
export const namedSources = sql`
    -- Arrays with matching places: the sources, sorted, their marks, and the first and last period of each.
    named AS MATERIALIZED (
      SELECT array_agg(source ORDER BY source) AS sources, array_agg(marks ORDER BY source) AS marks,
        array_agg(first_end ORDER BY source) AS first_end, array_agg(last_end ORDER BY source) AS last_end
      FROM (
        SELECT source, coalesce(sum(marks) FILTER (WHERE fate IN ('flushed', 'unknown')), 0) AS marks,
          min(first_end) AS first_end, max(last_end) AS last_end
        FROM by_fate GROUP BY source
      ) AS used
    )`

/**
 * Part of the flush statement: notes in `source_usage` which sources its marks came from. It waits for nobody. A row that
 * another flush is writing is skipped, and the next flush catches up.
 */
export const noteSources = sql`
    seen AS MATERIALIZED (
      SELECT s.source FROM named, source_usage s
      WHERE s.source = ANY (sources) AND (
        last_used_at < ${ofSource('last_end')}
        -- After an outage the newest marks come first. Older ones may close the gap.
        OR ${ofSource('first_end')} < regular_since AND regular_since - ${ofSource('last_end')} <= ${LONGEST_GAP}
      )
      FOR NO KEY UPDATE OF s SKIP LOCKED
    ),
    seen_again AS (
      UPDATE source_usage s SET
        last_used_at = greatest(last_used_at, ${ofSource('last_end')}),
        regular_since = CASE
          WHEN ${ofSource('first_end')} - last_used_at > ${LONGEST_GAP} THEN ${ofSource('first_end')}
          ELSE least(regular_since, ${ofSource('first_end')})
        END
      FROM named WHERE s.source = ANY (ARRAY (SELECT source FROM seen))
    ),
    new_source AS MATERIALIZED (
      SELECT unnest(sources) AS source FROM named EXCEPT SELECT source FROM source_usage
    ),
    -- An INSERT would wait for another one of the same key, so only one transaction at a time adds sources.
    may_add AS MATERIALIZED (
      SELECT CASE WHEN EXISTS (SELECT FROM new_source)
        THEN pg_try_advisory_xact_lock(hashtext('workspace-usage'), 'source_usage'::regclass::oid::integer)
      END AS may
    ),
    seen_first AS (
      INSERT INTO source_usage (source, regular_since, last_used_at)
      SELECT s.source, ${ofSource('first_end')}, ${ofSource('last_end')}
      FROM named, new_source s WHERE (SELECT may FROM may_add)
      ORDER BY 1
      LIMIT (SELECT greatest(0, ${MOST_SOURCES} - count(*)) FROM source_usage)
      ON CONFLICT DO NOTHING
    )`

/** SQL of the flushed marks of each source, as a JSON object. Of many sources it has the largest. */
export const countedSources = sql`(
      SELECT coalesce(json_object_agg(source, marks), '{}') FROM (
        SELECT unnest(sources) AS source, unnest(marks) AS marks FROM named ORDER BY 2 DESC, 1 LIMIT ${MOST_COUNTED_SOURCES}
      ) AS largest WHERE marks > 0
    )`

/** Marks by source. */
export type MarksBySource = Record<string, number>

/** Adds up marks by source. Beyond {@link MOST_COUNTED_SOURCES}, the smallest are counted as `other`. */
export function addBySource(parts: readonly MarksBySource[]): MarksBySource {
  // A source may have any name, also that of a property of all objects.
  const sums = new Map<string, number>()
  for (const part of parts) {
    for (const [source, marks] of Object.entries(part)) sums.set(source, (sums.get(source) ?? 0) + marks)
  }
  const named = [...sums].filter(([source]) => source !== OTHER).sort(([, a], [, b]) => b - a)
  const unnamed = named.splice(MOST_COUNTED_SOURCES).reduce((sum, [, marks]) => sum + marks, 0)
  const bySource = Object.fromEntries(named)
  const others = unnamed + (sums.get(OTHER) ?? 0)
  return others > 0 ? addToOthers(bySource, others) : bySource
}

/** Counts marks of sources that are not named. */
export function addToOthers(bySource: MarksBySource, marks: number): MarksBySource {
  return { ...bySource, [OTHER]: (bySource[OTHER] ?? 0) + marks }
}
