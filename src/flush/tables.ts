import { type RawBuilder, sql } from 'kysely'

/*
 * The tables of a flush. A statement names them through these, so `compile` can give them other names: those of a shard.
 */

export const PENDING_USAGE: RawBuilder<unknown> = sql.table('pending_usage')
export const SET_ASIDE_USAGE: RawBuilder<unknown> = sql.table('set_aside_usage')
export const REFUSED_USAGE: RawBuilder<unknown> = sql.table('refused_usage')
export const WORKSPACES: RawBuilder<unknown> = sql.table('workspaces')
export const WORKSPACE_USAGE_DAY: RawBuilder<unknown> = sql.table('workspace_usage_day')
/** A row for each shard, if the tables are distributed. It is lost with the marks of its shard. */
export const SHARD_WITNESS: RawBuilder<unknown> = sql.table('pending_usage_shard_witness')
