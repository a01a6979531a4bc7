import type { Readable } from 'node:stream'
import { type CsvError, parse } from 'csv-parse'
import type { ImportRow } from '../../import/import-row.ts'

/** How lines are read. */
export interface UsageLinesOptions {
  /** Called for each line that is no CSV of two or three fields. The other lines are read as usual. */
  onInvalid(line: number, message: string): void
  /** Ends the reading at once. */
  signal: AbortSignal
}

/** A longer line is refused: a quote is not closed, or this is no CSV. */
const LONGEST_LINE = 10_000

const FIELDS = ['workspace', 'time', 'source']

/**
 * Reads CSV of `workspace,time[,source]`, a row at a time. The first line may hold these names. An empty source counts as
 * left out.
 */
export async function* usageLines(
  input: Readable,
  { onInvalid, signal }: UsageLinesOptions,
): AsyncGenerator<ImportRow> {
  const parser = parse({
    bom: true,
    info: true,
    max_record_size: LONGEST_LINE,
    on_skip: error => {
      if (error) onInvalid(error.lines as number, reasonOf(error))
    },
    record_delimiter: ['\r\n', '\n', '\r'],
    relax_column_count: true,
    skip_empty_lines: true,
    skip_records_with_error: true,
  })
  // Without this, a reader would wait for ever if the input fails.
  input.on('error', error => parser.destroy(error))
  const end = () => parser.destroy()
  signal.addEventListener('abort', end, { once: true })
  let isFirst = true
  try {
    for await (const { record, info } of input.pipe(parser) as AsyncIterable<Line>) {
      const line = info.lines
      const wasFirst = isFirst
      isFirst = false
      if (wasFirst && isHeader(record)) continue
      const [workspaceId, usedAt, source, ...others] = record
      if (usedAt === undefined || others.length > 0)
        onInvalid(line, `${record.length} fields. A line is workspace,time or workspace,time,source`)
      else yield { workspaceId: workspaceId!, usedAt, line, ...(source && { source }) }
    }
  } catch (error) {
    if (!signal.aborted) throw error
  } finally {
    signal.removeEventListener('abort', end)
    // An input that goes on would keep the process alive.
    input.unpipe(parser)
    input.pause()
  }
}

/** What the parser tells of a record. */
interface Line {
  record: string[]
  info: { lines: number }
}

function isHeader(record: readonly string[]): boolean {
  return record.length > 1 && record.every((field, place) => field.trim().toLowerCase() === FIELDS[place])
}

function reasonOf({ code, message }: CsvError): string {
  if (code === 'CSV_MAX_RECORD_SIZE')
    return `longer than ${LONGEST_LINE} characters. A quote may be open since an earlier line`
  return `no CSV: ${message}`
}
