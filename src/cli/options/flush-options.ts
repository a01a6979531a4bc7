import { InvalidArgumentError, Option } from 'commander'
import { parseNumber } from './number-option.ts'

/** `--batch-size`, for every command that flushes. */
export function batchSizeOption(size: number): Option {
  return new Option('--batch-size <marks>', 'marks per flush at most')
    .env('WORKSPACE_USAGE_BATCH_SIZE')
    .argParser(parseNumber)
    .default(size)
}

/** `--sources <yes|no>`, for every command that flushes. */
export function sourcesOption(): Option {
  return new Option('--sources <yes|no>', 'whether to keep the last use by source (workspace_usage)')
    .env('WORKSPACE_USAGE_SOURCES')
    .default(true, 'yes')
    .argParser(text => {
      if (text !== 'yes' && text !== 'no') throw new InvalidArgumentError('Allowed: yes, no.')
      return text === 'yes'
    })
}
