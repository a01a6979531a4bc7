import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises'

/** A timer of Node may be late by so much, in ms. For the last part of a wait we watch the clock instead. */
const TIMER_LATE_MS = 2

/** How long requests of an open loop took, in ms, from the moment at which each should have been sent. */
export interface Latencies {
  requests: number
  p50: number
  p99: number
  max: number
}

/**
 * Sends requests at a fixed rate, whether the earlier ones have been answered or not. Each counts from the moment at
 * which it should have been sent. So a request that waits for a free connection, or for this process, counts its wait.
 * A loop that waits for the answer before it sends the next request would send few of them while the server is slow.
 *
 * @param perSecond Requests a second.
 * @param send Sends one request.
 * @param signal Ends the loop. Requests that were sent are waited for.
 */
export async function openLoop(
  perSecond: number,
  send: () => Promise<unknown>,
  signal: AbortSignal,
): Promise<Latencies> {
  const microseconds = createHistogram()
  const open = new Set<Promise<void>>()
  const started = performance.now()
  for (let count = 0; !signal.aborted; count++) {
    const due = started + (count / perSecond) * 1_000
    await until(due)
    const answer = send().then(() => record(microseconds, due))
    open.add(answer)
    void answer.finally(() => open.delete(answer)).catch(() => {})
  }
  await Promise.all(open)
  return {
    requests: Number(microseconds.count),
    p50: microseconds.percentile(50) / 1_000,
    p99: microseconds.percentile(99) / 1_000,
    max: microseconds.max / 1_000,
  }
}

async function until(due: number): Promise<void> {
  const left = due - performance.now()
  if (left > TIMER_LATE_MS) await sleep(left - TIMER_LATE_MS)
  while (performance.now() < due) await turn()
}

function record(microseconds: RecordableHistogram, due: number): void {
  microseconds.record(Math.max(1, Math.round((performance.now() - due) * 1_000)))
}
