import type { FaultyProxy } from '../support/faulty-proxy.ts'

/** How long a fault lasts. It is longer than the deadline of a statement in these tests. */
export const FAULT_MS = 1_500

/** What happens to a network, and then passes. The names end the sentence "a network that …". */
export const NETWORK_FAULTS: Record<string, (proxy: FaultyProxy) => void> = {
  'resets all connections': proxy => proxy.cut('reset'),
  'ends all connections with a goodbye': proxy => proxy.cut('end'),
  'resets all connections, and new ones at once': proxy => {
    proxy.has({ kind: 'refuses' })
    proxy.cut('reset')
  },
  'takes all bytes and passes them on later': proxy => proxy.has({ kind: 'stalls' }),
  'accepts connections on which nobody answers': proxy => {
    proxy.has({ kind: 'mutes' })
    proxy.cut('reset')
  },
  'loses all that clients send': proxy => proxy.has({ kind: 'loses', goingTo: 'server' }),
  'loses all that the server sends': proxy => proxy.has({ kind: 'loses', goingTo: 'client' }),
  'passes each packet on after a random time': proxy => proxy.has({ kind: 'delays', leastMs: 5, mostMs: 50 }),
  'passes on one byte at a time': proxy => proxy.has({ kind: 'splits' }),
}
