/** What became of a round of marks, or of a deletion. */
export type Outcome =
  | 'acknowledged'
  /** The transaction was rolled back, by us or before its commit was sent. */
  | 'rolled back'
  /** The connection broke, or the answer was late. It may have happened. It may even happen later. */
  | 'unknown'

/** What a process of the check reports. All times are of this machine's clock, in ms. */
export type Message =
  /** Before marks are made: they may be stored from now on, whatever is heard later. */
  | { type: 'intent'; round: number; source: number; workspaces: number[] }
  /** `stored` is a time at which the statement had ended. */
  | {
      type: 'outcome'
      round: number
      outcome: Outcome
      before: number
      stored: number
      calls: number
      /** An earlier attempt to store the same marks may still reach the database. */
      retried: boolean
    }
  /** Before workspaces are deleted. */
  | { type: 'deleting'; round: number; workspaces: number[] }
  | { type: 'deleted'; round: number; outcome: Outcome; at: number }
  /** A statement failed. */
  | { type: 'error'; state: string; text: string }
  /** Nobody handled an error, or Node warned. */
  | { type: 'unhandled'; text: string }
  | { type: 'leaked listeners'; count: number }
  | { type: 'not stored'; left: number; dropped: number }
  | { type: 'flushed'; marks: number; held: number; emptied: boolean }
  | { type: 'operations'; count: number }
  | { type: 'ready' }

/** Tells a message. Resolves when it survives a SIGKILL of this process. */
export type Report = (message: Message) => Promise<void>

/** What a process of the check is told at its start. */
export interface Part {
  role: 'writer' | 'host' | 'worker'
  /** Its number among those of its role. */
  number: number
  /** Counts the processes with this role and number, from 0. */
  life: number
  seed: number
  universe: number
  database: string
  /** The same database through the proxy. */
  proxied: string
}
