import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { stringify } from 'yaml'
import { expressionsOf, readDashboard } from './dashboard.ts'
import { missing, runInstalled } from './installed-program.ts'

/* What the panels show, computed by Prometheus's own tool: with two workers, during an outage, and without a worker. */

const EXPRESSIONS = expressionsOf(readDashboard())
const skip = missing('promtool')

/** No verdict, for ten minutes. */
const UNKNOWN = Array.from({ length: 41 }, () => 'NaN').join(' ')

/** Each worker of an installation says the same of its database. */
const ofTwoWorkers = (metric: string, namespace: string, values: string, labels = '') =>
  ['a', 'b'].map(instance => ({
    series: `${metric}{namespace="${namespace}",instance="${instance}"${labels}}`,
    values,
  }))

/** The metrics that a panel sums over all installations. */
const SUMMED = [
  { title: 'Failed jobs', metric: 'workspace_usage_failed_jobs', labels: '' },
  { title: 'Pending marks', metric: 'workspace_usage_pending', labels: ',state="open"' },
]

test('a panel counts what two workers say of one database once, and adds up several databases', {
  skip,
}, async () => {
  for (const { title, metric, labels } of [
    ...SUMMED,
    { title: 'Resets', metric: 'workspace_usage_resets_total', labels: '' },
  ]) {
    const series = [
      ...ofTwoWorkers(metric, 'one', '3x40', labels),
      ...ofTwoWorkers(metric, 'two', '4x40', labels),
    ]
    await assertShown(title, series, [7], labels)
  }
})

test('a panel shows what is known of one database, while the workers of another get no answer of theirs', {
  skip,
}, async () => {
  for (const { title, metric, labels } of SUMMED) {
    const series = [
      ...ofTwoWorkers(metric, 'one', UNKNOWN, labels),
      ...ofTwoWorkers(metric, 'two', '4x40', labels),
    ]
    await assertShown(title, series, [4], labels)
  }
})

test('a number that no worker knows is shown as unknown, and not as NaN', { skip }, async () => {
  const numbers = [
    ...SUMMED,
    { title: 'Lag', metric: 'workspace_usage_lag_seconds', labels: '' },
    { title: 'Failing flushes in a row', metric: 'workspace_usage_flush_consecutive_failures', labels: '' },
  ]
  for (const { title, metric, labels } of numbers) {
    await assertShown(title, ofTwoWorkers(metric, 'one', UNKNOWN, labels), [], labels)
  }
  for (const { type, title, fieldConfig } of readDashboard().panels) {
    if (type === 'stat') assert.equal(fieldConfig!.defaults.noValue, 'unknown', title)
  }
})

test('the last success grows old in its panel when no worker is left', { skip }, async () => {
  const series = ofTwoWorkers('workspace_usage_flush_last_success_seconds', 'one', '0x4 stale')
  await assertShown('Last success', series, [600])
})

/** Asks the first query of a panel ten minutes after the series began, with a sample every 15 seconds. */
async function assertShown(title: string, series: object[], values: number[], labels = ''): Promise<void> {
  const { expr } = EXPRESSIONS.find(panel => panel.title === title)!
  const folder = mkdtempSync(path.join(tmpdir(), 'workspace-usage-panels-'))
  const state = /state="\w+"/.exec(labels)?.[0] ?? ''
  const exp_samples = values.map(value => ({ labels: `{${state}}`, value }))
  const promql_expr_test = [{ expr, eval_time: '10m', exp_samples }]
  try {
    writeFileSync(
      path.join(folder, 'panel.yml'),
      stringify({ tests: [{ interval: '15s', input_series: series, promql_expr_test }] }),
    )
    const { code, output } = await runInstalled('promtool', ['test', 'rules', 'panel.yml'], folder)
    assert.equal(code, 0, `${title}: ${output}`)
  } finally {
    rmSync(folder, { recursive: true })
  }
}
