import { type Connection, execute, type Statement } from '../database/connection.ts'
import { asIsoText, parseIsoText } from '../database/timestamp.ts'
import { workspaceIdType } from '../database/workspace-id-type.ts'
import { canonicalWorkspaceId, type WorkspaceId, type WorkspaceIdType } from '../workspace-id.ts'
import type { UsedDay } from './intervals.ts'

/** All that the views know of one workspace, at one moment. */
export interface UsageRows {
  workspaceId: string
  exists: boolean
  lastUsedAt: Date | null
  createdAt: Date | null
  usedUntil: Date | null
  asOf: Date
  /** The source of the newest use comes first. */
  sources: SourceRows[]
}

/** All that the views know of one source. */
export interface SourceRows {
  source: string
  lastUsedAt: Date
  pending: boolean
  counts: boolean
  usedUntil: Date | null
  /** Its history, in any order. Empty if there is none. */
  days: UsedDay[]
}

/** An answer as JSON, because a host's driver may read columns of other types in ways of its own. */
interface Row {
  line: string
}

interface Line {
  known: boolean
  lastUsedAt: string | null
  createdAt: string | null
  usedUntil: string | null
  asOf: string
  source: string | null
  sourceUsedAt: string
  pending: boolean
  counts: boolean
  sourceUsedUntil: string | null
  days: [day: number, slots: string, first: string, last: string][] | null
}

/** Reads all of it in one statement, so that it is of one moment. */
export async function readUsage(connection: Connection, workspaceId: WorkspaceId): Promise<UsageRows> {
  const type = await workspaceIdType(connection)
  const id = canonicalWorkspaceId(workspaceId, type)
  const { rows } = await execute(connection, statement(id, type))
  const lines = rows.map(({ line }): Line => JSON.parse(line))
  const { known, lastUsedAt, createdAt, usedUntil, asOf } = lines[0]!
  return {
    workspaceId: id,
    exists: known,
    lastUsedAt: timeOf(lastUsedAt),
    createdAt: timeOf(createdAt),
    usedUntil: timeOf(usedUntil),
    asOf: parseIsoText(asOf),
    sources: lines.flatMap(sourceOf),
  }
}

function sourceOf({ source, sourceUsedAt, pending, counts, sourceUsedUntil, days }: Line): SourceRows[] {
  if (source === null) return []
  return [
    {
      source,
      lastUsedAt: parseIsoText(sourceUsedAt),
      pending,
      counts,
      usedUntil: timeOf(sourceUsedUntil),
      days: (days ?? []).map(([day, slots, first, last]) => ({
        day,
        slots,
        firstUsedAt: parseIsoText(first).getTime(),
        lastUsedAt: parseIsoText(last).getTime(),
      })),
    },
  ]
}

function timeOf(text: string | null): Date | null {
  return text === null ? null : parseIsoText(text)
}

function statement(id: string, type: WorkspaceIdType): Statement<Row> {
  return {
    sql: `SELECT json_build_object(
        'known', a.workspace_id IS NOT NULL,
        'lastUsedAt', ${asIsoText('a.last_used_at')},
        'createdAt', ${asIsoText('a.created_at')},
        'usedUntil', ${asIsoText('a.used_until')},
        'source', s.source,
        'sourceUsedAt', ${asIsoText('s.last_used_at')},
        'pending', s.pending,
        'counts', s.counts,
        'sourceUsedUntil', ${asIsoText('s.used_until')},
        'days', d.days,
        'asOf', ${asIsoText('statement_timestamp()')}
      )::text AS line
      FROM (SELECT $1::${type} AS id) asked
      LEFT JOIN workspace_activity a ON a.workspace_id = asked.id
      LEFT JOIN workspace_activity_by_source s ON s.workspace_id = asked.id
      LEFT JOIN (
        SELECT source, json_agg(json_build_array(
          day - '1970-01-01'::date, slots::text, ${asIsoText('first_used_at')}, ${asIsoText('last_used_at')}
        )) AS days
        FROM workspace_usage_daily WHERE workspace_id = $1::${type} GROUP BY source
      ) d ON d.source = s.source
      ORDER BY s.last_used_at DESC, s.source COLLATE "C"`,
    parameters: [id],
  }
}
