/** The longest wait for one lock on a shard, in ms, as on a single server. */
export const SHARD_LOCK_TIMEOUT_MS = 100
