import { setTimeout } from 'node:timers/promises'
import { A_CONNECTION, type Connection } from '../database/connection.ts'
import { workspaceIdType } from '../database/workspace-id-type.ts'
import { MAX_BATCH_SIZE } from '../flush/flush.ts'
import { A_SOURCE } from '../mark/source.ts'
import {
  checkOption,
  checkOptions,
  integerWithin,
  numberWithin,
  type OptionRules,
  whatever,
} from '../options.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { importBatch } from './import-batch.ts'
import {
  type CheckedRow,
  checkRow,
  type ImportRefusal,
  type ImportRefusalCode,
  type ImportRow,
} from './import-row.ts'

/** The default of `batchSize`. */
export const DEFAULT_IMPORT_BATCH_SIZE = 5_000

/** The source of rows that name none, by default. */
export const DEFAULT_IMPORT_SOURCE = 'import'

const DEFAULT_HELD_SECONDS = 10

/** The most held rows that wait for another try. With more, those that are still held are refused. */
const MOST_HELD = 50_000

/** The pause before held rows are tried again at the end. It is doubled each time, up to the longest. */
const FIRST_PAUSE_MS = 50
const LONGEST_PAUSE_MS = 1_000

/** Options of {@link importUsage}. */
export interface ImportOptions {
  /** The source of rows that name none: a text of 1 to 63 characters. Default `import`. */
  source?: string
  /** Rows per transaction: 1 to 100,000. Default 5,000. Their workspaces are locked as long as it lasts. */
  batchSize?: number
  /** How long the end waits for workspaces that other transactions hold, in seconds: 0 to 3,600. Default 10. */
  heldSeconds?: number
  /** Ends the import after the batch that is running. Rows that are not stored by then are left out. */
  signal?: AbortSignal
  /** Called for each row that is not imported. */
  onRefused?(refusal: ImportRefusal): void
  /** Called after each batch with what was done so far. The import waits for it. */
  onBatch?(progress: ImportResult): void | Promise<void>
}

const A_FUNCTION = whatever('a function', value => typeof value === 'function')

/** What the options of {@link importUsage} may be. */
export const IMPORT_OPTIONS: OptionRules<ImportOptions> = {
  source: A_SOURCE,
  batchSize: integerWithin(1, MAX_BATCH_SIZE),
  heldSeconds: numberWithin(0, 3_600, 'seconds'),
  signal: whatever('an AbortSignal', value => value instanceof AbortSignal),
  onRefused: A_FUNCTION,
  onBatch: A_FUNCTION,
}

const ROWS = whatever('an iterable or an async iterable of rows', value => {
  const { [Symbol.iterator]: sync, [Symbol.asyncIterator]: async } = Object(value)
  return typeof value === 'object' && [sync, async].some(method => typeof method === 'function')
})

/** What an import did. */
export interface ImportResult {
  /** Rows that were read and are settled: imported or refused. */
  rows: number
  imported: number
  /** How often a `last_used_at` moved forward. The other imported rows are older than it, and only in the history. */
  updated: number
  /** Rows that were not imported. */
  refused: number
  /** Of them, how many for which reason. */
  refusedBy: Record<ImportRefusalCode, number>
}

/**
 * Imports use of the past, such as a host has in a table of its own. For each row it moves `workspaces.last_used_at`
 * forward if the row is newer, and notes the use in the history. It moves nothing back, so the same rows can be imported
 * again, and rows may come in any order. It locks as a flush does: it waits for nobody. Workspaces that others hold are
 * tried again later.
 *
 * Rows are read as they are needed and stored in batches, each in a transaction. What is wrong with a row is told, and
 * the others go on.
 *
 * @param connection A pool gives a client for each batch. On a connection in a transaction all is part of that. The role
 *   needs what `workspace-usage grant --worker` gives.
 * @throws {InvalidOptionError} If an option is not allowed; nothing is sent then.
 * @throws {UnknownOptionError} If there is no such option; nothing is sent then.
 * @throws {NotMigratedError} If a table of this package is missing.
 * @throws {StandbyError} On a standby, or in a read-only session.
 * @throws {RowSecurityError} If row security would hide rows from the role.
 * @throws {NoAnswerError} If the database does not answer in time.
 * @throws What the iterable throws. The batches before are stored.
 */
export async function importUsage(
  connection: Connection,
  rows: AsyncIterable<ImportRow> | Iterable<ImportRow>,
  options: ImportOptions = {},
): Promise<ImportResult> {
  checkOption('connection', connection, A_CONNECTION)
  checkOption('rows', rows, ROWS)
  checkOptions(options, IMPORT_OPTIONS)
  return await new Import(connection, options, await workspaceIdType(connection)).run(rows)
}

class Import {
  readonly #connection: Connection
  readonly #options: ImportOptions
  readonly #idType: WorkspaceIdType
  readonly #batchSize: number
  readonly #result: ImportResult = {
    rows: 0,
    imported: 0,
    updated: 0,
    refused: 0,
    refusedBy: { invalid: 0, never: 0, future: 0, unknown: 0, held: 0, refused: 0 },
  }
  #held: CheckedRow[] = []

  constructor(connection: Connection, options: ImportOptions, idType: WorkspaceIdType) {
    this.#connection = connection
    this.#options = options
    this.#idType = idType
    this.#batchSize = options.batchSize ?? DEFAULT_IMPORT_BATCH_SIZE
  }

  async run(rows: AsyncIterable<ImportRow> | Iterable<ImportRow>): Promise<ImportResult> {
    const { source = DEFAULT_IMPORT_SOURCE, signal } = this.#options
    let batch: CheckedRow[] = []
    let read = 0
    for await (const row of rows) {
      if (signal?.aborted) break
      read++
      const checked = checkRow(row, row.line ?? read, source, this.#idType)
      if ('code' in checked) this.#refuse(checked)
      else batch.push(checked)
      // By the rows that are read, because many of them may be refused.
      if (read % this.#batchSize !== 0) continue
      await this.#store(batch)
      batch = []
    }
    if (!signal?.aborted) await this.#store(batch)
    await this.#storeHeld()
    await this.#options.onBatch?.(this.#result)
    return this.#result
  }

  async #store(batch: readonly CheckedRow[]): Promise<void> {
    if (batch.length > 0) await this.#try(batch)
    if (this.#held.length >= this.#batchSize) await this.#tryHeld()
    if (this.#held.length > MOST_HELD) this.#refuseHeld()
    await this.#options.onBatch?.(this.#result)
  }

  async #try(batch: readonly CheckedRow[]): Promise<void> {
    const { imported, updated, refusals, held } = await importBatch(this.#connection, batch, this.#idType)
    this.#result.imported += imported
    this.#result.rows += imported
    this.#result.updated += updated
    for (const refusal of refusals.sort((one, other) => one.line - other.line)) this.#refuse(refusal)
    this.#held.push(...held)
  }

  async #tryHeld(): Promise<void> {
    const rows = this.#held
    this.#held = []
    for (let from = 0; from < rows.length; from += this.#batchSize)
      await this.#try(rows.slice(from, from + this.#batchSize))
  }

  /** At the end there is time to wait for those who hold workspaces. */
  async #storeHeld(): Promise<void> {
    const { heldSeconds = DEFAULT_HELD_SECONDS, signal } = this.#options
    const end = performance.now() + heldSeconds * 1_000
    let pause = FIRST_PAUSE_MS
    while (this.#held.length > 0 && !signal?.aborted) {
      await this.#tryHeld()
      const left = end - performance.now()
      if (this.#held.length === 0 || left <= 0) break
      await setTimeout(Math.min(pause, left), undefined, signal && { signal }).catch(() => {})
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS)
    }
    this.#refuseHeld()
  }

  #refuseHeld(): void {
    for (const { line, id } of this.#held.splice(0))
      this.#refuse({
        line,
        code: 'held',
        message: `another transaction holds workspace ${id}: import it again`,
      })
  }

  #refuse(refusal: ImportRefusal): void {
    this.#result.rows++
    this.#result.refused++
    this.#result.refusedBy[refusal.code]++
    this.#options.onRefused?.(refusal)
  }
}
