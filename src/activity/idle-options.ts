import { integerWithin, numberWithin, type OptionRules, YES_OR_NO } from '../options.ts'

/** The default of {@link IdleOptions.pageSize}. Such a page takes about 100 MB. A million idle workspaces are two pages. */
export const DEFAULT_IDLE_PAGE_SIZE = 1_000_000

/** About a century. */
const MAX_SECONDS = 100 * 366 * 86_400

/** Options of `idleWorkspaces`. */
export interface IdleOptions {
  /** List what was not used for at least this many seconds, by the database's clock: 1 to 3,162,240,000 (a century). */
  idleForSeconds: number
  /**
   * List also what will be due within this many seconds if it is not used until then: 0 to 3,162,240,000 (a century).
   * If it is not less than `idleForSeconds`, that includes workspaces in use, and the ids of the list are kept in
   * memory (about 100 bytes each). Default 0: only what is due now.
   */
  withinSeconds?: number
  /**
   * Whether to list workspaces that were never used. If their time of creation is known, they count from then. The
   * others come after all: such a workspace may be a month old, or a second. Default true.
   */
  neverUsed?: boolean
  /** The most workspaces to list: an integer from 1. Default: all. */
  limit?: number
  /**
   * The most rows of a page, which are in memory together: an integer from 1 to 1,000,000. Each page reads all
   * workspaces once, so smaller pages take more time. The first page is small, so that the first row comes soon.
   * Default {@link DEFAULT_IDLE_PAGE_SIZE}.
   */
  pageSize?: number
}

/** What the options of `idleWorkspaces` may be. */
export const IDLE_OPTIONS: OptionRules<IdleOptions> = {
  idleForSeconds: numberWithin(1, MAX_SECONDS, 'seconds'),
  withinSeconds: numberWithin(0, MAX_SECONDS, 'seconds'),
  neverUsed: YES_OR_NO,
  limit: {
    words: 'an integer from 1',
    accepts: value =>
      value === Number.POSITIVE_INFINITY || (Number.isSafeInteger(value) && (value as number) >= 1),
  },
  pageSize: integerWithin(1, 1_000_000),
}
