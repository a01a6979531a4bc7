import { type Allowed, integerWithin } from '../options.ts'

/** What the option `untilLimitSeconds` may be: a minute to a year. */
export const UNTIL_LIMIT_SECONDS: Allowed = integerWithin(60, 366 * 86_400, 'seconds')
