import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { UsageError } from './output/failure.ts'
import type { Terminal } from './terminal.ts'

/**
 * Asks on the terminal whether to go on.
 *
 * @param warning What is about to happen.
 * @param flag The flag that answers yes where nobody can be asked.
 * @returns Whether `yes` was typed.
 * @throws {UsageError} If standard input or standard error is no terminal.
 */
export async function confirms(terminal: Terminal, warning: string, flag: string): Promise<boolean> {
  if (!terminal.stdin.isTTY || !terminal.stderr.isTTY) {
    throw new UsageError(`there is no terminal on which to confirm this: add ${flag}. ${warning}`)
  }
  terminal.tell(`${warning}\nType yes to go on:`)
  const lines = createInterface({ input: terminal.stdin })
  // Ctrl-D closes without a line.
  const answer = await Promise.race([once(lines, 'line'), once(lines, 'close')])
  lines.close()
  return answer[0] === 'yes'
}
