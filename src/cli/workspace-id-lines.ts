import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { InvalidWorkspaceIdError } from '../errors.ts'
import { canonicalWorkspaceId } from '../workspace-id.ts'

/** A batch of ids read from lines. */
export interface WorkspaceIdBatch {
  ids: string[]
  /** Lines read so far, blank ones and bad ones included. */
  lines: number
}

/**
 * Reads ids, one a line, in batches. Blank lines are skipped; a line that is not a UUID is handed to `onInvalid` and
 * the rest is read on, so that one bad line loses nothing but itself.
 */
export async function* workspaceIdLines(
  input: Readable,
  batchSize: number,
  onInvalid: (line: number, error: InvalidWorkspaceIdError) => void,
): AsyncGenerator<WorkspaceIdBatch> {
  let ids: string[] = []
  let lines = 0
  for await (const line of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
    lines += 1
    const text = line.trim()
    if (text === '') continue
    try {
      ids.push(canonicalWorkspaceId(text))
    } catch (error) {
      if (!(error instanceof InvalidWorkspaceIdError)) throw error
      onInvalid(lines, error)
    }
    if (ids.length >= batchSize) {
      yield { ids, lines }
      ids = []
    }
  }
  if (ids.length > 0) yield { ids, lines }
}
