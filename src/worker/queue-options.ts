/*
 * What `migrate` sets for the queues, and a worker for the schedule. The health verdict compares the database with it.
 * That must not load pg-boss, so this file imports nothing.
 */

const HOUR = 3_600
const WEEK = 7 * 24 * HOUR

/**
 * At most one job is queued, and any number are active. Row locks make flushes that overlap safe, so the active job of
 * a killed worker blocks nobody. With `exclusive` or `stately` the next flush would wait until that job expires.
 */
export const FLUSH_POLICY = 'short'

/** The options of the queue of flush jobs, beside its policy and its dead-letter queue. */
export const FLUSH_QUEUE_OPTIONS = {
  expireInSeconds: 30,
  retryLimit: 3,
  retryDelay: 1,
  retryBackoff: true,
  retryDelayMax: 15,
  retentionSeconds: HOUR,
  deleteAfterSeconds: HOUR,
} as const

/** The options of the queue of flush jobs that have failed for good. */
export const FAILED_QUEUE_OPTIONS = { retentionSeconds: WEEK, deleteAfterSeconds: WEEK } as const

/**
 * At most one run is queued or active. Two at once would be safe, and would double the rate. A run of a killed process
 * holds up the next one until it misses its heartbeat.
 */
export const REAP_POLICY = 'exclusive'

/** The options of the queue of reapers, beside its policy. A run that failed is not tried again: the next one is due. */
export const REAP_QUEUE_OPTIONS = {
  expireInSeconds: HOUR,
  heartbeatSeconds: 60,
  retryLimit: 0,
  retentionSeconds: HOUR,
  deleteAfterSeconds: WEEK,
} as const

/** At most one clearing of history is queued or active. Two at once would be safe, and do the same work twice. */
export const HISTORY_POLICY = 'exclusive'

/** The options of the queue that clears old history, beside its policy. */
export const HISTORY_QUEUE_OPTIONS = {
  expireInSeconds: HOUR,
  heartbeatSeconds: 60,
  retryLimit: 3,
  retryDelay: 600,
  retentionSeconds: 24 * HOUR,
  deleteAfterSeconds: WEEK,
} as const

/** The options of the schedule. After an outage of all workers, `once` means one flush, not one for each missed time. */
export const SCHEDULE_OPTIONS = { missed: 'once' } as const

/** The time zone that pg-boss reads the schedule's cron expression in, unless somebody gave it another. */
export const SCHEDULE_TIME_ZONE = 'UTC'
