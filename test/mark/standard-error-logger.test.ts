import assert from 'node:assert/strict'
import { type TestContext, test } from 'node:test'
import pino from 'pino'
import type { Logger } from '../../src/logger.ts'
import { standardErrorLogger } from '../../src/mark/standard-error-logger.ts'

const ERROR = Object.assign(new RangeError('the answer is "no"\nand stays so'), { code: '57P01' })

function tell(logger: Logger): void {
  logger.debug({ pending: 1 }, 'a detail')
  logger.info({ carriedOver: 3, dropped: 0 }, 'marks are stored again')
  logger.warn({ err: ERROR, retryInMs: 250 }, 'marks failed to be stored')
  logger.error({ workspaceId: '0b8f9f4e-2c55-4f11-9d0c-6a1f0c2b7a10' }, 'developer error: 100 %s "late"')
}

test('the default logger of a tracker writes the lines that pino writes', t => {
  const byPino: string[] = []
  tell(pino({ name: 'workspace-usage', base: {} }, { write: line => byPino.push(line) }))
  const byUs = linesOf(t, () => tell(standardErrorLogger))
  assert.equal(byUs.length, 3)
  assert.deepEqual(byUs.map(withoutTime), byPino.map(withoutTime))
  for (const line of byUs) assert.ok(Math.abs(JSON.parse(line).time - Date.now()) < 60_000)
})

test('the default logger of a tracker writes what was thrown, even if it is no Error', t => {
  const lines = linesOf(t, () => standardErrorLogger.warn({ err: 'no' }, 'marks failed to be stored'))
  assert.deepEqual(withoutTime(lines[0]!), {
    level: 40,
    name: 'workspace-usage',
    err: { type: 'string', message: 'no' },
    msg: 'marks failed to be stored',
  })
})

/** The lines that `work` writes to standard error. */
function linesOf(t: TestContext, work: () => void): string[] {
  const lines: string[] = []
  const write = t.mock.method(process.stderr, 'write', (text: string) => lines.push(text) > 0)
  work()
  write.mock.restore()
  return lines
}

function withoutTime(line: string): object {
  const { time, ...others } = JSON.parse(line)
  return others
}
