import { SOURCE_OF_MARK } from '../database/source-of-mark.ts'

/*
 * The view pending_usage_period leads around dead marks, so these reads stay quick while a long transaction keeps them.
 */

/** SQL: whether a mark of `pending_usage` itself is in one of the periods in which there are any. All of them are. */
export const IN_PENDING_PERIODS = 'period_end = ANY (ARRAY (SELECT period_end FROM pending_usage_period))'

/** SQL of all pending marks: `source`, `period_end`, `workspace_id`. In use until a time ahead is in use until now. */
export const PENDING_MARKS = `
  SELECT ${SOURCE_OF_MARK}, period_end, workspace_id FROM ONLY pending_usage WHERE ${IN_PENDING_PERIODS}
  UNION ALL
  SELECT ${SOURCE_OF_MARK}, CASE reason WHEN 'until' THEN least(period_end, statement_timestamp()) ELSE period_end END, workspace_id
  FROM set_aside_usage`
