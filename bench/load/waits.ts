import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'

const EVERY_MS = 100

/** Where the connections of an application are, looked at ten times a second. */
export interface Waits extends AsyncDisposable {
  /** Such as `CPU 70 %, WALSync 20 %`: the largest shares of the looks at which a connection had work. */
  inWords(): string
}

/** Looks until it is disposed. It counts the connections that have a statement, or a transaction. */
export function sampleWaits(connectionString: string, application: string): Waits {
  const counts = new Map<string, number>()
  let looking = true
  const done = look()
  done.catch(() => {})
  return {
    inWords() {
      const all = [...counts.values()].reduce((sum, count) => sum + count, 0)
      return [...counts]
        .toSorted(([, one], [, other]) => other - one)
        .slice(0, 4)
        .map(([where, count]) => `${where} ${Math.round((count / all) * 100)} %`)
        .join(', ')
    },
    async [Symbol.asyncDispose]() {
      looking = false
      await done
    },
  }

  async function look(): Promise<void> {
    const client = new pg.Client({ connectionString, application_name: 'bench' })
    await client.connect()
    try {
      while (looking) {
        const { rows } = await client.query<{ at: string; count: number }>(
          `SELECT coalesce(wait_event, 'CPU') AS at, count(*)::integer AS count FROM pg_stat_activity
          WHERE application_name = $1 AND state <> 'idle' GROUP BY 1`,
          [application],
        )
        for (const { at, count } of rows) counts.set(at, (counts.get(at) ?? 0) + count)
        await sleep(EVERY_MS)
      }
    } finally {
      await client.end()
    }
  }
}
