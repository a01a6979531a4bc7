/** Shards that a flush could not look at. Their marks stay, and the next flush looks again. */
export interface ShardsLeft {
  /** The node, as the coordinator reaches it, such as `10.0.0.7:5432`. */
  node: string
  /** How many of its shards. */
  shards: number
  /** Why, in the words of the coordinator or of PostgreSQL. */
  message: string
}
