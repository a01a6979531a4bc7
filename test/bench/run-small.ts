import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import type { Report } from '../../bench/report/results-page.ts'
import { runProgram } from '../support/process.ts'
import { testServer } from '../support/test-server.ts'

/** They start processes or servers, and measure for some seconds. */
export const TIMED_MEASURES = ['application-latency', 'mark-latency', 'tracker-period', 'lookup']

/** They write dist/, which other tests may read. */
export const BUILDING_MEASURES = ['import', 'command-line', 'idle-report', 'scale-out', 'idle-worker']

/** Runs some measures over a table of 1,000 workspaces, as a program. Asserts that each of them found something. */
export async function runSmall(
  t: TestContext,
  names: readonly string[],
  { timeoutMs = 100_000, env = {} }: { timeoutMs?: number; env?: Record<string, string> } = {},
): Promise<{ code: number | null; report: Report }> {
  const { code, stdout, stderr } = await runProgram(
    'bench/main.ts',
    ['--workspaces', '1000', '--json', ...names],
    {
      env: { DATABASE_URL: await testServer(), ...env },
      timeoutMs,
    },
  )
  t.diagnostic(stderr)
  const report: Report = JSON.parse(stdout)
  assert.deepEqual(
    report.outcomes.filter(({ failed }) => failed !== undefined),
    [],
  )
  assert.deepEqual(
    report.outcomes.map(({ name }) => name),
    names,
  )
  return { code, report }
}
