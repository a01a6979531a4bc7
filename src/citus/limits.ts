/** The longest wait for one lock on a shard, in ms, as on a single server. */
export const SHARD_LOCK_TIMEOUT_MS = 100

/** How long the coordinator may take to connect to a node, in ms. Without an answer, all other shards would wait. */
export const CONNECT_TIMEOUT_MS = 5_000
