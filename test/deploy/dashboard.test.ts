import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parse } from 'yaml'
import { textOf } from '../docs/markdown.ts'
import { type Panel, readDashboard } from './dashboard.ts'
import { selectorsOf } from './promql.ts'

/* The dashboard imports into any Grafana without edits, and shows what an operator asks. */

const DASHBOARD = readDashboard()
const PANELS = DASHBOARD.panels.filter(({ type }) => type !== 'row')

test('the dashboard names no data source of its own: it asks for one, and Grafana chooses it', () => {
  const [datasource] = DASHBOARD.templating.list
  assert.deepEqual(
    [datasource!.name, datasource!.type, datasource!.query],
    ['datasource', 'datasource', 'prometheus'],
  )
  const sources = new Set<string>()
  JSON.stringify(DASHBOARD, (key, value) => {
    if (key === 'datasource') sources.add(`${value.type} ${value.uid}`)
    return value
  })
  assert.deepEqual([...sources], [`prometheus \${${datasource!.name}}`])
  // What an export for sharing would have: Grafana would ask for it at the import.
  assert.equal(DASHBOARD.__inputs, undefined)
  assert.equal(DASHBOARD.id, undefined)
})

test('the dashboard keeps its address at an import, and each panel has a number and a place of its own', () => {
  assert.equal(DASHBOARD.uid, 'workspace-usage')
  const ids = DASHBOARD.panels.map(({ id }) => id)
  assert.equal(new Set(ids).size, ids.length)
  const taken = new Map<string, string>()
  for (const { title, gridPos } of DASHBOARD.panels) {
    assert.ok(gridPos.x + gridPos.w <= 24, title)
    for (const cell of cellsOf(gridPos)) {
      assert.equal(taken.get(cell), undefined, `${title} covers another panel`)
      taken.set(cell, title)
    }
  }
})

test('each panel says what it shows, and each of its queries has a letter of its own', () => {
  assert.ok(PANELS.length >= 15)
  for (const { title, description, targets = [] } of PANELS) {
    assert.match(description ?? '', /^[A-Z].*\.$/, title)
    const letters = targets.map(({ refId }) => refId)
    assert.ok(letters.length > 0 && new Set(letters).size === letters.length, title)
  }
})

test('the labels in a legend are those that the query keeps', () => {
  for (const { title, targets = [] } of PANELS) {
    for (const { expr, legendFormat } of targets) {
      const named = [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label]) => label!)
      for (const { grouping } of selectorsOf(expr)) {
        for (const label of named) assert.ok(grouping.includes(label), `${title}: ${label}`)
      }
    }
  }
})

test('the provisioning loads the dashboard from where the compose file mounts it, and names its data source', () => {
  const { services } = parse(textOf('docker-compose.yml'), { merge: true })
  const mounts: string[] = services.grafana.volumes
  const { providers } = parse(textOf('deploy/grafana/provisioning/dashboards/workspace-usage.yml'))
  assert.ok(mounts.includes(`./deploy/grafana/dashboards:${providers[0].options.path}:ro`))
  assert.ok(mounts.includes('./deploy/grafana/provisioning:/etc/grafana/provisioning:ro'))
  const { datasources } = parse(textOf('deploy/grafana/provisioning/datasources/prometheus.yml'))
  assert.deepEqual([datasources[0].type, datasources[0].isDefault], ['prometheus', true])
  assert.ok(services[new URL(datasources[0].url).hostname], datasources[0].url)
})

function cellsOf({ x, y, w, h }: Panel['gridPos']): string[] {
  return Array.from({ length: w * h }, (_, index) => `${x + (index % w)}:${y + Math.floor(index / w)}`)
}
