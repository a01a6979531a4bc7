import { compile } from '../database/compile.ts'
import { type Connection, execute } from '../database/connection.ts'
import { isDistributed } from '../database/distributed.ts'
import { transactionOn } from '../database/transaction.ts'
import { ANSWER_GRACE_MS } from '../flush/flush.ts'
import { CANCELLED, isLockTimeout, mayConcernOneWorkspace, type Reason, reasonOf } from '../flush/refusal.ts'
import { prepare } from '../flush/settings.ts'
import type { WorkspaceIdType } from '../workspace-id.ts'
import { importOnShards } from './import-on-shards.ts'
import type { CheckedRow, ImportRefusal } from './import-row.ts'
import { type ImportCounts, importStatement } from './import-statement.ts'

/** What became of a batch. Each row is imported, refused or held. */
export interface ImportedBatch {
  imported: number
  updated: number
  refusals: ImportRefusal[]
  /** They can be tried again. */
  held: CheckedRow[]
}

const TIMEOUT_SECONDS = 30

/** How often a batch is tried if a lock is not free. From the second time on it locks carefully. */
const TRIES = 3

/** If the database refuses so many workspaces and takes none, the fault is not theirs. */
const TOO_MANY_REFUSALS = 16

/**
 * Imports some rows in a transaction. If the database refuses the update of a workspace, halves are tried, each in a
 * transaction of its own, until the row is found.
 *
 * @throws The error of the statement, if it concerns everybody.
 */
export async function importBatch(
  connection: Connection,
  rows: readonly CheckedRow[],
  idType: WorkspaceIdType,
): Promise<ImportedBatch> {
  const done: ImportedBatch = { imported: 0, updated: 0, refusals: [], held: [] }
  const open = [rows]
  let refused = 0
  for (let some = open.pop(); some !== undefined; some = open.pop()) {
    const outcome = await attempt(connection, some, idType)
    if ('counts' in outcome) add(done, some, outcome.counts)
    else if (outcome.locked) done.held.push(...some)
    else {
      const { ids = some.length === 1 ? [some[0]!.id] : [] } = outcome
      const [faulty, rest] = [
        some.filter(({ id }) => ids.includes(id)),
        some.filter(({ id }) => !ids.includes(id)),
      ]
      done.refusals.push(...faulty.map(({ line }) => refusalOf(line, outcome.reason)))
      refused += faulty.length
      if (refused >= TOO_MANY_REFUSALS && done.imported === 0 && outcome.error !== undefined)
        throw outcome.error
      if (faulty.length > 0 && rest.length > 0) open.push(rest)
      else if (faulty.length === 0) open.push(rest.slice(rest.length >> 1), rest.slice(0, rest.length >> 1))
    }
  }
  return done
}

/** What the statement did, or why nothing of it is left. */
type Outcome =
  | { counts: ImportCounts }
  | { error: unknown; reason: Reason; locked: boolean; ids?: readonly string[] }

async function attempt(
  connection: Connection,
  rows: readonly CheckedRow[],
  idType: WorkspaceIdType,
): Promise<Outcome> {
  for (let made = 1; ; made++) {
    try {
      return { counts: await run(connection, rows, idType, made > 1) }
    } catch (error) {
      if (error instanceof Unmoved)
        return { error: undefined, reason: CANCELLED, locked: false, ids: error.ids }
      if (!mayConcernOneWorkspace(error)) throw error
      const locked = isLockTimeout(error)
      if (!locked || made === TRIES) return { error, reason: reasonOf(error), locked }
    }
  }
}

async function run(
  connection: Connection,
  rows: readonly CheckedRow[],
  idType: WorkspaceIdType,
  careful: boolean,
): Promise<ImportCounts> {
  return await transactionOn(connection, TIMEOUT_SECONDS * 1_000 + ANSWER_GRACE_MS, async transaction => {
    const restore = await prepare(transaction, TIMEOUT_SECONDS * 1_000)
    const how = { idType, careful }
    const counts = (await isDistributed(transaction.connection))
      ? await importOnShards(transaction.connection, rows, how)
      : await importHere(transaction.connection, rows, how)
    if (counts.unmoved.length > 0) throw new Unmoved(counts.unmoved)
    if (transaction.callers) await restore()
    return counts
  })
}

async function importHere(
  connection: Connection,
  rows: readonly CheckedRow[],
  how: { idType: WorkspaceIdType; careful: boolean },
): Promise<ImportCounts> {
  const answer = await execute(connection, compile(importStatement(rows, how)))
  return JSON.parse(answer.rows[0]!.counts) as ImportCounts
}

/** It only rolls the transaction back. Nobody sees it. */
class Unmoved extends Error {
  readonly ids: readonly string[]

  constructor(ids: readonly string[]) {
    super('a trigger cancelled the update')
    this.ids = ids
  }
}

function add(
  done: ImportedBatch,
  rows: readonly CheckedRow[],
  { imported, updated, left }: ImportCounts,
): void {
  done.imported += imported
  done.updated += updated
  for (const [place, fate] of left) {
    const row = rows[place]!
    if (fate === 'held') done.held.push(row)
    else done.refusals.push({ line: row.line, code: fate, message: messageOf(fate, row) })
  }
}

function messageOf(fate: 'future' | 'unknown' | 'refused', { id, time }: CheckedRow): string {
  if (fate === 'future') return `the time ${time} is in the future, by the clock of the database`
  if (fate === 'unknown') return `no such workspace: ${id}`
  return `the database refuses the update of workspace ${id}: "workspace-usage status" tells why`
}

function refusalOf(line: number, { sqlState, message }: Reason): ImportRefusal {
  const state = sqlState === null ? '' : ` (SQLSTATE ${sqlState})`
  return { line, code: 'refused', message: `the database refuses the update: ${message}${state}` }
}
