import { type RawBuilder, sql } from 'kysely'

/*
 * The history of use in SQL: which slots of which days (UTC) a use fills.
 *
 * A use ends at the end of a period, which no longer belongs to it. It begins with the first slot that begins after its
 * start, or with the last one. So a mark of a period that is not longer than a slot is one bit, and a longer use has no
 * gaps. Slots are numbered from 1970 on, in whole numbers, because that is cheap in a flush.
 */

/** The length of a slot, in seconds. */
export const SLOT_SECONDS = 300

/** A day of UTC has so many. */
export const SLOTS_OF_A_DAY = 288

type Sql = RawBuilder<unknown>

const PER_DAY = sql.lit(SLOTS_OF_A_DAY)
/** SQL of the bits of a day without use. */
export const NO_SLOTS = sql`(0)::bit(${PER_DAY})`

/** SQL of the first slot of a use. It is not after the last one. */
export function firstSlot(from: Sql, until: Sql): Sql {
  return sql`least(${lastSlot(until)}, ${slotsUntil(from)})`
}

/** SQL of the last slot of a use. */
export function lastSlot(until: Sql): Sql {
  return sql`(${slotsUntil(until)} - 1)`
}

function slotsUntil(time: Sql): Sql {
  return sql`ceil(date_part('epoch'::text, ${time}) / ${sql.lit(SLOT_SECONDS)}::double precision)::integer`
}

/** SQL of the number of the day of a slot. */
export function dayOf(slot: Sql): Sql {
  return sql`(${slot} / ${PER_DAY})`
}

/** SQL of the date of a day. */
export function dateOf(day: Sql): Sql {
  return sql`('1970-01-01'::date + ${day})`
}

/** SQL of the midnight with which a day begins. */
export function midnightOf(day: Sql): Sql {
  return sql`to_timestamp((${day} * 86400::bigint)::double precision)`
}

/** SQL of the bits of the slots of a day, from the first to the last. Those of other days are left out. */
export function slotsOf(day: Sql, first: Sql, last: Sql): Sql {
  const from = sql`greatest(${first} - ${day} * ${PER_DAY}, 0)`
  const until = sql`greatest(${sql.lit(SLOTS_OF_A_DAY - 1)} - (${last} - ${day} * ${PER_DAY}), 0)`
  return sql`(((~ ${NO_SLOTS}) >> ${from}) & ((~ ${NO_SLOTS}) << ${until}))`
}

/** SQL of the bit of one slot of a day. */
export function slotOf(day: Sql, slot: Sql): Sql {
  return sql`set_bit(${NO_SLOTS}, ${slot} - ${day} * ${PER_DAY}, 1)`
}

/** SQL of whether a use filled the slot in which another one ended. */
export function fills(day: Sql, slots: Sql, until: Sql): Sql {
  return sql`(${day} = ${dateOf(dayOf(lastSlot(until)))} AND get_bit(${slots}, ${lastSlot(until)} % ${PER_DAY}) = 1)`
}

/**
 * SQL of a table with a row for each day of a use: `day`, `slots`, `first_used_at`, `last_used_at`. The last moment of a
 * use may be the end of its day.
 *
 * @param days SQL of the numbers of the first and the last day: see {@link daysOfUse}.
 */
export function usedDays(from: Sql, until: Sql, days = daysOfUse(from, until)): Sql {
  const day = sql`number`
  return sql`(
        SELECT ${dateOf(day)} AS day, ${slotsOf(day, firstSlot(from, until), lastSlot(until))} AS slots,
          greatest(${from}, ${midnightOf(day)}) AS first_used_at,
          least(${until}, ${midnightOf(sql`(${day} + 1)`)}) AS last_used_at
        FROM generate_series(${days.first}, ${days.last}) AS number
      )`
}

/** SQL of the numbers of the first and the last day of a use. */
export function daysOfUse(from: Sql, until: Sql): { first: Sql; last: Sql } {
  return { first: dayOf(firstSlot(from, until)), last: dayOf(lastSlot(until)) }
}
