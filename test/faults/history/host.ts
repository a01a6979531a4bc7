import type pg from 'pg'
import { Random } from './random.ts'
import { isRefused, openPool, pause, Rounds, reportError, type Surroundings } from './surroundings.ts'
import { HOSTS } from './universe.ts'

/** A part of the host: its own workspaces, so that two parts can't deadlock with each other. */
interface Host extends Surroundings {
  pool: pg.Pool
  random: Random
  rounds: Rounds
  /** The workspaces that only this strand touches. */
  own: number[]
}

const STRANDS = 3

/**
 * The application that owns `workspaces`. It updates and locks them in random order, in short and long transactions,
 * creates them, deletes them and inserts them again. A deadlock can only be one with somebody else.
 */
export async function runHost(surroundings: Surroundings): Promise<void> {
  const { number, life, seed, database, universe, report, signal } = surroundings
  const pool = openPool(database, `host ${number}`, STRANDS)
  const rounds = new Rounds()
  await report({ type: 'ready' })
  const strands = Array.from({ length: STRANDS }, async (_, strand) => {
    const first = number * STRANDS + strand
    const own = universe.ids.map((_, n) => n).filter(n => n % (HOSTS * STRANDS) === first)
    const random = new Random(seed + 1_000 * (100 + first) + life)
    const host: Host = { ...surroundings, pool, random, rounds, own }
    while (!signal.aborted) {
      await act(host).catch(error => reportError(report, error))
      await pause(random.integer(5, 60), signal)
    }
  })
  await Promise.all(strands)
  await pool.end()
}

async function act(host: Host): Promise<void> {
  const { random, report } = host
  const lot = random.next()
  if (lot < 0.7) await update(host, random.integer(1, 15), 0)
  else if (lot < 0.75) await update(host, random.integer(2, 20), random.integer(20, 200))
  else if (lot < 0.76) await update(host, random.integer(2, 5), random.integer(500, 1_000))
  else if (lot < 0.82) await lock(host)
  else if (lot < 0.92) await remove(host)
  else await create(host)
  await report({ type: 'operations', count: 1 })
}

/** Mostly workspaces that are marked at this time, in random order. */
function some({ universe, random, own }: Host, count: number): string[] {
  const used = universe.inUse(400, Date.now(), random)
  const near = random.next() < 0.8 ? used.filter(n => n % (HOSTS * STRANDS) === own[0]!) : []
  const among = near.length >= count ? near : own
  return random.distinct(count, among.length).map(n => universe.ids[among[n]!]!)
}

async function inTransaction(host: Host, body: (client: pg.PoolClient) => Promise<void>): Promise<void> {
  const client = await host.pool.connect()
  try {
    await client.query('BEGIN')
    await body(client)
    await client.query('COMMIT')
    client.release()
  } catch (error) {
    client.release(true)
    throw error
  }
}

async function update(host: Host, count: number, pauseMs: number): Promise<void> {
  await inTransaction(host, async client => {
    for (const id of some(host, count)) {
      await client.query('UPDATE workspaces SET changes = changes + 1 WHERE id = $1', [id])
      if (pauseMs > 0) await pause(pauseMs, host.signal)
    }
  })
}

async function lock(host: Host): Promise<void> {
  const { random, signal } = host
  await inTransaction(host, async client => {
    for (const id of some(host, random.integer(1, 20))) {
      const strength = random.pick(['UPDATE', 'NO KEY UPDATE', 'SHARE', 'KEY SHARE'])
      await client.query(`SELECT FROM workspaces WHERE id = $1 FOR ${strength}`, [id])
    }
    await pause(random.next() ** 3 * 3_000, signal)
  })
}

async function remove(host: Host): Promise<void> {
  const { random, signal, universe, report, rounds } = host
  const ids = some(host, random.integer(1, 3))
  const round = rounds.next()
  await report({ type: 'deleting', round, workspaces: ids.map(id => universe.numberOf(id)) })
  const again = random.pick(['at once', 'later', 'by and by'])
  try {
    await inTransaction(host, async client => {
      await client.query('DELETE FROM workspaces WHERE id = ANY ($1)', [ids])
      if (again === 'at once') await insert(client, ids)
      await pause(random.next() ** 3 * 1_000, signal)
    })
  } catch (error) {
    await report({
      type: 'deleted',
      round,
      outcome: isRefused(error) ? 'rolled back' : 'unknown',
      at: Date.now(),
    })
    throw error
  }
  await report({ type: 'deleted', round, outcome: 'acknowledged', at: Date.now() + 1 })
  if (again !== 'later') return
  await pause(random.next() * 1_500, signal)
  await inTransaction(host, client => insert(client, ids))
}

/** Creates those of some workspaces that do not exist, at times in a long transaction. */
async function create(host: Host): Promise<void> {
  const { random, own, universe, signal } = host
  const ids = random.distinct(100, own.length).map(n => universe.ids[own[n]!]!)
  await inTransaction(host, async client => {
    await insert(client, ids)
    await pause(random.next() ** 3 * 2_000, signal)
  })
}

async function insert(client: pg.PoolClient, ids: string[]): Promise<void> {
  await client.query('INSERT INTO workspaces (id) SELECT unnest($1::uuid[]) ON CONFLICT DO NOTHING', [ids])
}
