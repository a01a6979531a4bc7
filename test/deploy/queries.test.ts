import assert from 'node:assert/strict'
import { test } from 'node:test'
import { until } from '../support/poll.ts'
import { readRules, rulesOf } from './alerts.ts'
import { expressionsOf, readDashboard } from './dashboard.ts'
import { type Exported, readExported } from './exported.ts'
import { startExporting } from './exporting.ts'
import { missing } from './installed-program.ts'
import { selectorsOf } from './promql.ts'
import { startPrometheus } from './running-prometheus.ts'

/*
 * The rules and the dashboard ask for what a real worker and a real tracker export: each metric, each label, each value
 * of a label.
 */

const exporting = await startExporting()
const DASHBOARD = readDashboard()
const PANELS = expressionsOf(DASHBOARD)
const RULES = rulesOf(readRules())
const EXPRESSIONS = [...RULES.map(({ alert, expr }) => ({ title: alert, expr })), ...PANELS]

/** Prometheus adds these to what it scrapes. */
const ADDED = ['job', 'instance', 'namespace']

/** Prometheus makes this series itself, for each target. */
const UP = ['up', [{}]] as const

/** What is wrong with the names in an expression. */
function faultsOf(expression: string, exported: Exported): string[] {
  return selectorsOf(expression).flatMap(({ metric, matchers, grouping }) => {
    const series = exported.get(metric)
    if (!series) return [`there is no metric ${metric}`]
    const labels = new Set([...series.flatMap(labels => Object.keys(labels)), ...ADDED])
    const names = [...matchers.map(({ label }) => label), ...grouping]
    const values = matchers.filter(
      ({ label, operator, value }) =>
        operator === '=' &&
        !ADDED.includes(label) &&
        label !== 'code' &&
        !series.some(labels => labels[label] === value),
    )
    return [
      ...names.filter(label => !labels.has(label)).map(label => `${metric} has no label ${label}`),
      ...values.map(({ label, value }) => `${metric} has no ${label}="${value}"`),
    ]
  })
}

async function exportedNow(): Promise<Exported> {
  const exported = readExported(await exporting.worker.read(), await exporting.tracker.read())
  return exported.set(UP[0], [...UP[1]])
}

test('a worker and a tracker export every metric and every label that the rules and the dashboard ask for', async () => {
  const exported = await exportedNow()
  assert.ok(EXPRESSIONS.length > 35, 'the expressions are read')
  const faults = EXPRESSIONS.flatMap(({ title, expr }) =>
    faultsOf(expr, exported).map(fault => `${title}: ${fault}`),
  )
  assert.deepEqual(faults, [])
})

test('a metric, a label and a value that nobody exports are found in an expression', async () => {
  const exported = await exportedNow()
  assert.deepEqual(faultsOf('workspace_usage_lagg_seconds', exported), [
    'there is no metric workspace_usage_lagg_seconds',
  ])
  assert.deepEqual(faultsOf('max by (source) (workspace_usage_lag_seconds)', exported), [
    'workspace_usage_lag_seconds has no label source',
  ])
  assert.deepEqual(faultsOf('workspace_usage_pending{state="refuse"}', exported), [
    'workspace_usage_pending has no state="refuse"',
  ])
})

test('the variable of the dashboard asks for a metric and a label that there are', async () => {
  const exported = await exportedNow()
  const { definition, query } = DASHBOARD.templating.list.find(({ name }) => name === 'namespace')!
  const [, metric, label] = /^label_values\((\w+), (\w+)\)$/.exec(definition!)!
  assert.equal((query as { query: string }).query, definition)
  assert.ok(exported.has(metric!), metric)
  assert.ok(ADDED.includes(label!), label)
})

test('a metric of a worker tells whose it is, if its tables are not in the schema public', async () => {
  const exported = readExported(await exporting.worker.read())
  const ours = [...exported].filter(([metric]) => metric.startsWith('workspace_usage_'))
  assert.ok(ours.length > 15, 'the metrics are read')
  for (const [metric, series] of ours) {
    for (const { messaging_destination_name } of series) {
      assert.equal(messaging_destination_name, 'workspace-usage-flush.sales', metric)
    }
  }
})

test('a Prometheus that scrapes a worker and a tracker answers every query of the dashboard, and judges every rule', {
  skip: missing('prometheus'),
}, async () => {
  const prometheus = await startPrometheus({
    'workspace-usage': exporting.worker.address,
    gateway: exporting.tracker.address,
  })
  for (const { title, expr } of PANELS) {
    await until(`"${title}" shows something: ${expr}`, () => prometheus.count(expr), { timeoutMs: 20_000 })
  }
  const rules = await until('each rule has been judged', () => prometheus.rules(), {
    accept: rules => rules.every(({ health }) => health !== 'unknown'),
  })
  assert.equal(rules.length, RULES.length)
  assert.deepEqual(
    rules.filter(({ health }) => health !== 'ok'),
    [],
  )
  const raised = rules.filter(({ state }) => state !== 'inactive').map(({ name }) => name)
  for (const name of ['WorkspaceUsageRefused', 'WorkspaceUsageSilentSource', 'WorkspaceUsageUnhealthy']) {
    assert.ok(raised.includes(name), name)
  }
  for (const name of [
    'WorkspaceUsageLag',
    'WorkspaceUsageNoFlush',
    'WorkspaceUsageNoMetrics',
    'WorkspaceUsageWorkerDown',
  ]) {
    assert.ok(!raised.includes(name), name)
  }
})
