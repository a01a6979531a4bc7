import { readFileSync } from 'node:fs'
import path from 'node:path'
import { parse } from 'yaml'
import { ROOT } from '../support/checkout.ts'

/** The folder with the rules, their tests and the configuration of Prometheus. */
export const PROMETHEUS_FOLDER = path.join(ROOT, 'deploy/prometheus')

/** A rule of `alerts.yml`. */
export interface AlertRule {
  alert: string
  expr: string
  for?: string
  labels?: Record<string, string>
  annotations: Record<string, string>
}

/** A file of rules. */
export interface RuleFile {
  groups: { name: string; rules: AlertRule[] }[]
}

/** A file of tests for rules, as far as it is read here. */
export interface RuleTests {
  evaluation_interval: string
  tests: { name: string; alert_rule_test: RuleTestCase[] }[]
}

/** What one test expects of one alert at one time. */
export interface RuleTestCase {
  eval_time: string
  alertname: string
  exp_alerts: unknown[]
}

/** The rules, read anew, so that a caller may change them. */
export const readRules = (): RuleFile => parse(read('alerts.yml'))

/** The rules of all groups. */
export const rulesOf = ({ groups }: RuleFile): AlertRule[] => groups.flatMap(({ rules }) => rules)

/** The tests of the rules. */
export const readRuleTests = (): RuleTests => parse(read('alerts.test.yml'))

/** A duration of Prometheus in seconds, such as `90s`, `10m` or `2h`. Zero if there is none. */
export function secondsOf(duration = '0s'): number {
  const [, count, unit] = /^(\d+)([smhd])$/.exec(duration)!
  return Number(count) * { s: 1, m: 60, h: 3_600, d: 86_400 }[unit as 's' | 'm' | 'h' | 'd']
}

function read(name: string): string {
  return readFileSync(path.join(PROMETHEUS_FOLDER, name), 'utf8')
}
