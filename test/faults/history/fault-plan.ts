import { Random } from './random.ts'

/** Kinds of faults, with how often each comes. */
const WEIGHTS = {
  'kill a backend': 10,
  'kill a backend that flushes': 8,
  'kill a worker': 4,
  'kill a writer': 2,
  'kill a host': 1,
  'stop a worker': 2,
  'stop a backend': 3,
  'cut the network': 3,
  'stall the network': 2,
  'silence the network': 1,
  'restart the server': 1,
  'hold a snapshot': 3,
  'lock workspaces': 5,
}

const CRASHES = { 'crash the server': 4, 'kill the postmaster': 4 }

/** A kind of fault. */
export type FaultKind = keyof typeof WEIGHTS | keyof typeof CRASHES

/** All kinds, in the order of the table. */
export const FAULT_KINDS = Object.keys({ ...WEIGHTS, ...CRASHES }) as FaultKind[]

/** One fault. */
export interface Fault {
  kind: FaultKind
  /** How long nothing is injected before it. */
  pauseMs: number
  /** How long it lasts, if it is one that lasts. */
  lastsMs: number
  /** Which of the possible victims it hits: from 0, below 1. */
  victim: number
}

/**
 * The faults of a seed, without end. Kinds, lengths, pauses and choices depend on the seed only. What they meet depends
 * on the moment.
 */
export function* planFaults(seed: number, { crash }: { crash: boolean }): Generator<Fault, never> {
  const random = new Random(seed)
  const weights = Object.entries(crash ? { ...WEIGHTS, ...CRASHES } : WEIGHTS) as [FaultKind, number][]
  const deck = weights.flatMap(([kind, weight]) => Array<FaultKind>(weight).fill(kind))
  for (;;) {
    // The whole deck is dealt before it is shuffled anew, so that a minute has each kind.
    for (const card of random.distinct(deck.length, deck.length)) {
      yield {
        kind: deck[card]!,
        pauseMs: random.integer(50, 700),
        lastsMs: random.integer(200, 3_000),
        victim: random.next(),
      }
    }
  }
}
