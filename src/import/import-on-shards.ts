import { sql } from 'kysely'
import { ShardCalls } from '../citus/shard-calls.ts'
import { takeShards } from '../citus/shards.ts'
import { ignoredSources } from '../citus/sources.ts'
import { compile, executeSql } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { idSql } from '../flush/id-sql.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import type { CheckedRow } from './import-row.ts'
import { type ImportCounts, importStatement, noteImported } from './import-statement.ts'

/**
 * Imports some rows into a distributed database: the same statement on each shard, with the rows of its workspaces. Each
 * shard commits by itself. If one fails, its error is thrown, and the others have imported their rows: to import them
 * again changes nothing.
 *
 * @param coordinator An open transaction. Rows of shards that Citus is moving count as held.
 * @throws {NodeUnreachableError} If a node does not answer.
 */
export async function importOnShards(
  coordinator: Connection,
  rows: readonly CheckedRow[],
  how: { idType: WorkspaceIdType; careful: boolean },
): Promise<ImportCounts> {
  const { shards } = await takeShards(coordinator)
  const places = await placesByShard(coordinator, rows, how.idType)
  const taken = shards.filter(({ id }) => places.has(id))
  const ignored = await ignoredSources(coordinator)
  const calls = new ShardCalls(coordinator)
  const ended = await calls.onEach(taken, async (connection, index) => {
    const mine = places.get(taken[index]!.id)!
    const statement = importStatement(
      mine.map(place => rows[place]!),
      { ...how, ignored },
    )
    const { rows: answers } = await executeSql(connection, statement)
    return inOrder(JSON.parse(answers[0]!.counts), mine)
  })
  const counts = sumOf(ended.map(end => settledOf(end)))
  for (const { id } of taken) places.delete(id)
  for (const place of [...places.values()].flat()) counts.left.push([place, 'held'])
  const { sources = [] } = counts
  if (sources.length > 0) await executeSql(coordinator, noteImported(sources))
  return counts
}

/** The places of the rows among those of all, by the id of the shard. */
async function placesByShard(
  coordinator: Connection,
  rows: readonly CheckedRow[],
  idType: WorkspaceIdType,
): Promise<Map<string, number[]>> {
  const ids = idSql(idType).many(rows.map(({ id }) => id))
  const { rows: answers } = await execute(
    coordinator,
    compile(sql<{ shards: string }>`
      SELECT json_agg(
        pg_catalog.get_shard_id_for_distribution_column('pending_usage', id)::text ORDER BY place
      )::text AS shards
      FROM unnest(${ids}) WITH ORDINALITY AS given (id, place)`),
  )
  const shards: string[] = JSON.parse(answers[0]!.shards)
  return Map.groupBy(shards.keys(), place => shards[place]!)
}

function inOrder(counts: ImportCounts, places: readonly number[]): ImportCounts {
  return { ...counts, left: counts.left.map(([place, fate]) => [places[place]!, fate]) }
}

function settledOf(end: PromiseSettledResult<ImportCounts>): ImportCounts {
  if (end.status === 'rejected') throw end.reason
  return end.value
}

function sumOf(all: readonly ImportCounts[]): ImportCounts {
  const sum = (count: 'imported' | 'updated') => all.reduce((total, counts) => total + counts[count], 0)
  return {
    imported: sum('imported'),
    updated: sum('updated'),
    unmoved: all.flatMap(({ unmoved }) => unmoved),
    left: all.flatMap(({ left }) => left),
    sources: all.flatMap(({ sources = [] }) => sources),
  }
}
