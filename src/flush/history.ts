import { type RawBuilder, sql } from 'kysely'
import {
  dateOf,
  dayOf,
  firstSlot,
  lastSlot,
  midnightOf,
  NO_SLOTS,
  SLOT_SECONDS,
  slotOf,
  slotsOf,
} from '../database/used-days.ts'
import { WORKSPACE_USAGE_DAY } from './tables.ts'

type Sql = RawBuilder<unknown>

/** SQL of whether the mark of a period may fill more than one slot. */
export const LONG_PERIOD = sql`usage_period() > make_interval(secs => ${sql.lit(SLOT_SECONDS)})`

const LAST_DAY = dayOf(sql`last_slot`)

/** The marks that are history: `workspace_id`, `source`, `used_from`, `period_end`. */
const SETTLED = sql`
        SELECT workspace_id, source, period_end, coalesce(used_from, period_end - usage_period()) AS used_from
        FROM mark WHERE fate = 'flushed' AND period_end > '1970-01-02Z'`

/** Each mark fills one slot, as long as a period is not longer. This costs half of what the other form does. */
const SHORT = sql`
        SELECT workspace_id, source, ${LAST_DAY} AS day, ${slotOf(LAST_DAY, sql`last_slot`)} AS slots,
          greatest(used_from, ${midnightOf(LAST_DAY)}) AS first_used_at, period_end AS last_used_at
        FROM (
          SELECT *, ${lastSlot(sql`period_end`)} AS last_slot FROM (${SETTLED}) AS settled
        ) AS used`

/** A long use may fill slots of several days. Mostly there is only the last one. */
const LONG = sql`
        SELECT ${ofDay(LAST_DAY)}, period_end AS last_used_at FROM used
        UNION ALL
        SELECT ${ofDay(sql`day`)}, ${midnightOf(sql`(day + 1)`)}
        FROM (
          SELECT *, generate_series(${dayOf(sql`first_slot`)}, ${LAST_DAY} - 1) AS day FROM used
          WHERE ${dayOf(sql`first_slot`)} < ${LAST_DAY}
        ) AS earlier`

/** Without a history, one row has the last use. It is of no day that anybody asks for. */
const LAST = sql`
        SELECT workspace_id, source, 0 AS day, ${NO_SLOTS} AS slots, period_end AS first_used_at,
          period_end AS last_used_at
        FROM (${SETTLED}) AS settled`

function ofDay(day: Sql): Sql {
  return sql`workspace_id, source, ${day} AS day, ${slotsOf(day, sql`first_slot`, sql`last_slot`)} AS slots,
          greatest(used_from, ${midnightOf(day)}) AS first_used_at`
}

const USED = sql`
    used AS MATERIALIZED (
      SELECT *, ${firstSlot(sql`used_from`, sql`period_end`)} AS first_slot, ${lastSlot(sql`period_end`)} AS last_slot
      FROM (${SETTLED}) AS settled
    ),`

const PARTS = { short: SHORT, long: LONG, last: LAST }

/**
 * Part of the flush statement: writes when each source used each workspace. What a row holds is a union, a minimum and a
 * maximum, so the order of flushes does not matter.
 *
 * @param uses What is kept of a mark: its one slot, all that it may fill, or only the last use.
 */
export function updateHistory(uses: keyof typeof PARTS): Sql {
  return sql`${uses === 'long' ? USED : sql``}
    -- We hold the lock of the workspace. So nobody deletes it before the foreign key is checked, and no other flush
    -- writes its history. In the order of the index, neighbours share its pages.
    by_source AS (
      INSERT INTO ${WORKSPACE_USAGE_DAY} AS u (workspace_id, source, day, slots, first_used_at, last_used_at)
      SELECT workspace_id, source, ${dateOf(sql`day`)}, bit_or(slots), min(first_used_at), max(last_used_at)
      FROM (${PARTS[uses]}
      ) AS part
      GROUP BY workspace_id, source, day
      ORDER BY workspace_id, source, day
      ON CONFLICT (workspace_id, source, day) DO UPDATE SET
        slots = u.slots | excluded.slots,
        first_used_at = least(u.first_used_at, excluded.first_used_at),
        last_used_at = greatest(u.last_used_at, excluded.last_used_at)
      WHERE u.last_used_at < excluded.last_used_at OR u.first_used_at > excluded.first_used_at
        OR u.slots | excluded.slots <> u.slots
    )`
}
