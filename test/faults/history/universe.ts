import { createHash } from 'node:crypto'

/** The length of a period in this check. It is short, so that many periods end in a run. */
export const PERIOD_MS = 1_000

/** How many processes of a kind there are. */
export const WRITERS = 2
export const HOSTS = 2
export const WORKERS = 3

/** The kinds of sources of one writer, each used in another way. */
export const WAYS = ['tracker', 'proxied', 'markUsage', 'sql', 'transaction'] as const

/** One way to mark. */
export type Way = (typeof WAYS)[number]

/** The source that all writers share. */
export const SHARED_SOURCE = 0

/**
 * All sources. The first is shared. Then come those of the writers, one for each way. The writer with the number
 * WRITERS is this process.
 */
export const SOURCES: readonly string[] = [
  'shared',
  ...Array.from({ length: WRITERS + 1 }, (_, writer) => WAYS.map(way => `${way} ${writer}`)).flat(),
]

/** The place of a writer's source among {@link SOURCES}. */
export function sourceOf(writer: number, way: Way): number {
  return 1 + writer * WAYS.length + WAYS.indexOf(way)
}

/** The workspaces of a run. Each has a number, and an id that depends on the number only. */
export class Universe {
  readonly size: number
  readonly ids: readonly string[]
  readonly #numbers: ReadonlyMap<string, number>

  constructor(size: number) {
    this.size = size
    this.ids = Array.from({ length: size }, (_, number) => uuidOf(number))
    this.#numbers = new Map(this.ids.map((id, number) => [id, number]))
  }

  /** The number of a workspace. @throws Error if it is none of this run */
  numberOf(id: string): number {
    const number = this.#numbers.get(id)
    if (number === undefined) throw new Error(`no workspace of this run has the id ${id}`)
    return number
  }

  /**
   * Some distinct workspaces that are in use at this time. Use moves on: each workspace is used for some seconds, and
   * then rests. So its last mark of each source is not covered up by a later one, and a lost one is seen.
   */
  inUse(count: number, at: number, random: { next(): number }): number[] {
    const first = Math.floor((at / 1_000) * 200) % this.size
    const span = Math.min(3_000, Math.ceil(this.size / 2))
    const start = Math.floor(random.next() * span)
    return Array.from({ length: Math.min(count, span) }, (_, n) => (first + ((start + n) % span)) % this.size)
  }
}

function uuidOf(number: number): string {
  const hex = createHash('sha256').update(`workspace ${number}`).digest('hex')
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-8${hex.slice(17, 20)}-${hex.slice(20, 32)}`
}
