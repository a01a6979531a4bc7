import { type RawBuilder, sql } from 'kysely'
import { dateOf, dayOf, firstSlot, lastSlot, midnightOf, slotsOf } from '../database/used-days.ts'

type Sql = RawBuilder<unknown>

/** What a use fills of a day. */
function ofDay(day: Sql): Sql {
  return sql`workspace_id, source, ${day} AS day, ${slotsOf(day, sql`first_slot`, sql`last_slot`)} AS slots,
          greatest(used_from, ${midnightOf(day)}) AS first_used_at`
}

const LAST_DAY = dayOf(sql`last_slot`)

/**
 * Part of the flush statement: writes when each source used each workspace. What a row holds is a union, a minimum and a
 * maximum, so the order of flushes does not matter.
 */
export const updateHistory = sql`
    used AS MATERIALIZED (
      SELECT workspace_id, source, used_from, period_end,
        ${firstSlot(sql`used_from`, sql`period_end`)} AS first_slot, ${lastSlot(sql`period_end`)} AS last_slot
      FROM (
        SELECT workspace_id, source, period_end, coalesce(used_from, period_end - usage_period()) AS used_from
        FROM mark WHERE fate = 'flushed' AND period_end > '1970-01-02Z'
      ) AS settled
    ),
    -- We hold the lock of the workspace. So nobody deletes it before the foreign key is checked, and no other flush
    -- writes its history.
    by_source AS (
      INSERT INTO workspace_usage_day AS u (workspace_id, source, day, slots, first_used_at, last_used_at)
      SELECT workspace_id, source, ${dateOf(sql`day`)}, bit_or(slots), min(first_used_at), max(last_used_at)
      FROM (
        SELECT ${ofDay(LAST_DAY)}, period_end AS last_used_at FROM used
        UNION ALL
        SELECT ${ofDay(sql`day`)}, ${midnightOf(sql`(day + 1)`)}
        FROM (
          SELECT *, generate_series(${dayOf(sql`first_slot`)}, ${LAST_DAY} - 1) AS day FROM used
          WHERE ${dayOf(sql`first_slot`)} < ${LAST_DAY}
        ) AS earlier
      ) AS part
      GROUP BY workspace_id, source, day
      ON CONFLICT (workspace_id, source, day) DO UPDATE SET
        slots = u.slots | excluded.slots,
        first_used_at = least(u.first_used_at, excluded.first_used_at),
        last_used_at = greatest(u.last_used_at, excluded.last_used_at)
      WHERE u.last_used_at < excluded.last_used_at OR u.first_used_at > excluded.first_used_at
        OR u.slots | excluded.slots <> u.slots
    )`
