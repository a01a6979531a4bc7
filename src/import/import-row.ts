import { InvalidSourceError, InvalidWorkspaceIdError } from '../errors.ts'
import { assertSource } from '../mark/source.ts'
import { canonicalWorkspaceId, type WorkspaceId, type WorkspaceIdType } from '../workspace-id.ts'
import { importTime } from './import-time.ts'

/** A use of the past, as another system knows it. */
export interface ImportRow {
  workspaceId: WorkspaceId
  /** The last moment of the use: a `Date`, or ISO 8601 with a zone. */
  usedAt: Date | string
  /** Who used it. Default: the option `source`. */
  source?: string
  /** What {@link ImportRefusal} calls the row: the number of its line. Default: its place among all rows, from 1 on. */
  line?: number
}

/**
 * Why a row is not imported:
 *
 * - `invalid`: its id, its time or its source is none.
 * - `never`: its time stands for "never used": an infinity, or a time before 1970-01-02.
 * - `future`: its time is after now, by the database's clock.
 * - `unknown`: there is no such workspace.
 * - `held`: another transaction held the workspace until the end.
 * - `refused`: the database refuses the update of the workspace.
 */
export type ImportRefusalCode = 'invalid' | 'never' | 'future' | 'unknown' | 'held' | 'refused'

/** A row that is not imported. */
export interface ImportRefusal {
  line: number
  code: ImportRefusalCode
  /** Why, in a sentence. */
  message: string
}

/** A row that is sent. */
export interface CheckedRow {
  line: number
  id: string
  time: string
  source: string
}

/** Checks a row, as far as this machine can. */
export function checkRow(
  row: ImportRow,
  line: number,
  source: string,
  idType: WorkspaceIdType,
): CheckedRow | ImportRefusal {
  try {
    const id = canonicalWorkspaceId(trimmed(row.workspaceId, idType), idType)
    const time = importTime(row.usedAt)
    if ('refusal' in time) return { line, code: time.never ? 'never' : 'invalid', message: time.refusal }
    return { line, id, time: time.text, source: assertSource(row.source ?? source) }
  } catch (error) {
    if (!(error instanceof InvalidWorkspaceIdError || error instanceof InvalidSourceError)) throw error
    return { line, code: 'invalid', message: error.message }
  }
}

/** Some write a space after each comma. In an id that is a text it counts. */
function trimmed(id: WorkspaceId, idType: WorkspaceIdType): WorkspaceId {
  return typeof id === 'string' && idType !== 'text' ? id.trim() : id
}
