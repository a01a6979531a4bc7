import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { UsageError } from './output/failure.ts'
import type { Terminal } from './terminal.ts'

/**
 * Asks on the terminal whether to go on. Where nobody can be asked, the flag that answers is needed.
 *
 * @param warning What is about to happen.
 * @returns Whether `yes` was typed.
 * @throws {UsageError} If standard input or standard error is no terminal.
 */
export async function confirms(terminal: Terminal, warning: string, flag: string): Promise<boolean> {
  if (!terminal.stdin.isTTY || !terminal.stderr.isTTY) {
    throw new UsageError(`nobody can be asked to confirm here, without a terminal: add ${flag}. ${warning}`)
  }
  terminal.tell(`${warning}\nType yes to go on:`)
  const lines = createInterface({ input: terminal.stdin })
  // Ctrl-D closes without a line.
  const answer = await Promise.race([once(lines, 'line'), once(lines, 'close')])
  lines.close()
  return answer[0] === 'yes'
}
