import { readFileSync } from 'node:fs'
import path from 'node:path'
import { ROOT } from '../support/checkout.ts'

/** A dashboard of Grafana, as far as it is read here. */
export interface Dashboard {
  uid: string
  title: string
  schemaVersion: number
  templating: {
    list: { name: string; type: string; query: unknown; definition?: string; allValue?: string }[]
  }
  panels: Panel[]
  [field: string]: unknown
}

/** A panel, or a row, which has no targets. */
export interface Panel {
  id: number
  type: string
  title: string
  description?: string
  datasource?: { type: string; uid: string }
  gridPos: { x: number; y: number; w: number; h: number }
  fieldConfig?: { defaults: { noValue?: string } }
  targets?: { refId: string; expr: string; legendFormat: string; datasource: { type: string; uid: string } }[]
}

/** The dashboard. */
export function readDashboard(): Dashboard {
  return JSON.parse(readFileSync(path.join(ROOT, 'deploy/grafana/dashboards/workspace-usage.json'), 'utf8'))
}

/** The expressions of all panels, with the variable of the dashboard replaced by "all". */
export function expressionsOf({ panels, templating }: Dashboard): { title: string; expr: string }[] {
  const all = templating.list.find(({ name }) => name === 'namespace')!.allValue!
  return panels.flatMap(({ title, targets = [] }) =>
    targets.map(({ expr }) => ({ title, expr: expr.replaceAll('$namespace', all) })),
  )
}
