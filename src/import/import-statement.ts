import { type RawBuilder, sql } from 'kysely'
import { classify } from '../flush/fate.ts'
import { updateHistory } from '../flush/history.ts'
import { idSql } from '../flush/id-sql.ts'
import { lock } from '../flush/lock-workspaces.ts'
import { LONGEST_GAP, MOST_SOURCES } from '../flush/source-usage.ts'
import { unmoved, update } from '../flush/update-workspaces.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import type { CheckedRow } from './import-row.ts'

/** What one statement did. */
export interface ImportCounts {
  imported: number
  /** Rows of `workspaces` that moved forward. */
  updated: number
  /** Workspaces whose row stayed as it was, although it was updated. */
  unmoved: string[]
  /** The rows that were not imported: their places among the given ones, from 0 on, and why. */
  left: [place: number, fate: 'future' | 'unknown' | 'held' | 'refused'][]
  /** The last use of each source. Only of a statement on a shard: it is left to note in `source_usage`. */
  sources?: ImportedSource[]
}

/** The last use of a source among the imported rows, as the server writes the time. */
export interface ImportedSource {
  source: string
  last_end: string
}

/** How a statement imports. */
export interface ImportStatementOptions {
  idType: WorkspaceIdType
  /** As in a flush. */
  careful: boolean
  /** On a shard: the sources whose uses do not count. */
  ignored?: readonly string[]
}

/**
 * The import in one statement. It does with rows what a flush does with marks, by the same SQL: it locks the workspaces
 * and waits for nobody, moves `last_used_at` forward only, and adds to the history. What is not imported is told.
 */
export function importStatement(
  rows: readonly CheckedRow[],
  { idType, careful, ignored }: ImportStatementOptions,
): RawBuilder<{ counts: string }> {
  const ids = idSql(idType)
  const how = { careful, direct: false, ...(ignored && { ignored }) }
  const [id, time, source] = [
    rows.map(({ id }) => id),
    rows.map(({ time }) => time),
    rows.map(({ source }) => source),
  ]
  return sql<{ counts: string }>`
    WITH given AS MATERIALIZED (
      SELECT place - 1 AS place, workspace_id, period_end, source
      FROM unnest(${ids.many(id)}, ${time}::timestamptz[], ${source}::text[])
        WITH ORDINALITY AS given (workspace_id, period_end, source, place)
    ),
    -- A use of no length, that ends then.
    due AS MATERIALIZED (
      SELECT place, period_end, workspace_id, source COLLATE "C" AS source, period_end AS used_from
      FROM given WHERE period_end <= statement_timestamp()
    ),
    ${lock({ from: 'pending', batchSize: rows.length, oldestFirst: false }, how, ids)},
    ${classify(0, ids)},
    ${update(ids, how)},
    ${updateHistory('short')},
    ${named(LAST_ENDS)},
    ${ignored ? sql`` : sql`${noteSources},`}
    counted AS MATERIALIZED (SELECT json_build_object(
      'imported', (SELECT count(*) FROM mark WHERE fate = 'flushed'),
      'updated', (SELECT workspaces FROM written),
      'unmoved', ${unmoved(ids)},
      ${ignored ? sql`'sources', (SELECT coalesce(json_agg(named), '[]') FROM named),` : sql``}
      'left', (
        SELECT coalesce(json_agg(json_build_array(place, fate)), '[]') FROM (
          SELECT place, CASE fate WHEN 'awaited' THEN 'unknown' ELSE fate END AS fate FROM mark WHERE fate <> 'flushed'
          UNION ALL
          SELECT place, 'future' FROM given WHERE period_end > statement_timestamp()
        ) AS others
      )
    ) AS counts)
    SELECT counts::text AS counts${ignored ? sql`, json_array_length(counts -> 'unmoved') > 0 AS undo` : sql``}
    FROM counted`
}

/** Notes the sources that statements on shards have told. */
export function noteImported(sources: readonly ImportedSource[]): RawBuilder<unknown> {
  return sql`
    WITH ${named(sql`
      SELECT source COLLATE "C" AS source, max(last_end) AS last_end
      FROM json_to_recordset(${JSON.stringify(sources)}::json) AS told (source text, last_end timestamptz)
      GROUP BY source`)},
    ${noteSources}
    SELECT`
}

const named = (lastEnds: RawBuilder<unknown>) => sql`named AS MATERIALIZED (${lastEnds})`

const LAST_ENDS = sql`SELECT source, max(period_end) AS last_end FROM mark WHERE fate = 'flushed' GROUP BY source`

/**
 * Notes the sources. Uses of the past tell nothing of how regular a source is now, or it would seem silent. So a source
 * whose last use moves forward begins anew, unless that is less than an hour ago and after its last one.
 */
const noteSources = sql`
    seen AS MATERIALIZED (
      SELECT s.source FROM source_usage s
      WHERE s.last_used_at < (SELECT n.last_end FROM named n WHERE n.source = s.source)
      FOR NO KEY UPDATE SKIP LOCKED
    ),
    seen_again AS (
      UPDATE source_usage s SET
        last_used_at = greatest(s.last_used_at, n.last_end),
        regular_since = CASE
          WHEN n.last_end - s.last_used_at > ${LONGEST_GAP} OR statement_timestamp() - n.last_end > ${LONGEST_GAP}
          THEN n.last_end
          ELSE s.regular_since
        END
      FROM named n
      WHERE n.source = s.source AND s.source = ANY (ARRAY (SELECT source FROM seen))
    ),
    new_source AS MATERIALIZED (SELECT source FROM named EXCEPT SELECT source FROM source_usage),
    -- As in a flush: only one transaction at a time adds sources.
    may_add AS MATERIALIZED (
      SELECT CASE WHEN EXISTS (SELECT FROM new_source)
        THEN pg_try_advisory_xact_lock(hashtext('workspace-usage'), 'source_usage'::regclass::oid::integer)
      END AS may
    ),
    seen_first AS (
      INSERT INTO source_usage (source, regular_since, last_used_at)
      SELECT source, last_end, last_end FROM new_source JOIN named USING (source)
      WHERE (SELECT may FROM may_add)
      ORDER BY source
      LIMIT (SELECT greatest(0, ${MOST_SOURCES} - count(*)) FROM source_usage)
      ON CONFLICT DO NOTHING
    )`
