import type { Option } from 'commander'
import { DEFAULT_BATCH_SIZE, DEFAULT_UNKNOWN_AFTER_SECONDS, FLUSH_OPTIONS } from '../../flush/flush.ts'
import { DEFAULT_HISTORY_DAYS, HISTORY_DAYS } from '../../history/clear-history.ts'
import { numberAllowedBy, yesOrNo } from './parsers.ts'
import { VariableOption } from './variable-option.ts'

/** `--batch-size`, for every command that flushes. */
export function batchSizeOption(): Option {
  return new VariableOption('--batch-size <marks>', 'the most marks per flush', 'WORKSPACE_USAGE_BATCH_SIZE')
    .argParser(numberAllowedBy(FLUSH_OPTIONS.batchSize))
    .default(DEFAULT_BATCH_SIZE)
}

/** `--sources <yes|no>`, for every command that flushes. */
export function sourcesOption(): Option {
  return new VariableOption(
    '--sources <yes|no>',
    'whether to keep the last use by source (table workspace_usage)',
    'WORKSPACE_USAGE_SOURCES',
  )
    .argParser(yesOrNo)
    .default(true, 'yes')
}

/** `--history-days <days>`, for every command that flushes. */
export function historyDaysOption(): Option {
  return new VariableOption(
    '--history-days <days>',
    'how many days of history to keep, in slots of five minutes; 0: none',
    'WORKSPACE_USAGE_HISTORY_DAYS',
  )
    .argParser(numberAllowedBy(HISTORY_DAYS))
    .default(DEFAULT_HISTORY_DAYS)
}

/** `--unknown-after <seconds>`, for every command that flushes. */
export function unknownAfterOption(): Option {
  return new VariableOption(
    '--unknown-after <seconds>',
    'how long marks of a workspace that does not exist (yet) are kept',
    'WORKSPACE_USAGE_UNKNOWN_AFTER',
  )
    .argParser(numberAllowedBy(FLUSH_OPTIONS.unknownAfterSeconds))
    .default(DEFAULT_UNKNOWN_AFTER_SECONDS)
}
