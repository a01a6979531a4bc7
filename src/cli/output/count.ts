/** A count with its noun: `1 workspace`, `2 workspaces`. */
export function count(number: number, noun: string, plural = `${noun}s`): string {
  return `${number} ${number === 1 ? noun : plural}`
}

/** The counts of a flush as text. The words are the same as in its JSON and in the worker's log. */
export function describeFlush(counts: FlushCounts): string {
  const { flushed, updated, unknown, held, awaited = 0, refused = 0 } = counts
  const always = `${count(flushed, 'mark')} flushed, ${count(updated, 'workspace')} updated, ${unknown} unknown, ${held} held`
  return [always, awaited > 0 && `${awaited} awaited`, refused > 0 && `${refused} refused`]
    .filter(part => part !== false)
    .join(', ')
}

/** The counts of one flush, or the sums of many. */
export interface FlushCounts {
  flushed: number
  updated: number
  unknown: number
  held: number
  awaited?: number
  refused?: number
}
