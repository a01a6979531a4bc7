import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { InvalidWorkspaceIdError } from '../../errors.ts'
import { canonicalWorkspaceId, type WorkspaceIdType } from '../../workspace-id.ts'

/** A batch of ids read from lines. */
export interface WorkspaceIdBatch {
  ids: string[]
  /** Lines read so far, blank ones and bad ones included. */
  lines: number
}

/** How ids are read. */
export interface WorkspaceIdLinesOptions {
  /** The type of the ids. In a `text`, spaces at the ends of a line count. */
  idType: WorkspaceIdType
  batchSize: number
  /** Called for each line that is no id. The other lines are read as usual. */
  onInvalid(line: number, error: InvalidWorkspaceIdError): void
  /** Ends the reading at once. An unfinished batch is dropped. */
  signal: AbortSignal
}

/** Reads ids in batches, one id per line. Blank lines are skipped. */
export async function* workspaceIdLines(
  input: Readable,
  { idType, batchSize, onInvalid, signal }: WorkspaceIdLinesOptions,
): AsyncGenerator<WorkspaceIdBatch> {
  let ids: string[] = []
  let lines = 0
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY, signal })) {
    // readline still delivers lines that it has read before the signal.
    if (signal.aborted) return
    lines += 1
    const trimmed = line.trim()
    if (trimmed === '') continue
    const id = idType === 'text' ? line : trimmed
    try {
      ids.push(canonicalWorkspaceId(id, idType))
    } catch (error) {
      if (!(error instanceof InvalidWorkspaceIdError)) throw error
      onInvalid(lines, error)
    }
    if (ids.length >= batchSize) {
      yield { ids, lines }
      ids = []
    }
  }
  if (ids.length > 0 && !signal.aborted) yield { ids, lines }
}
