import assert from 'node:assert/strict'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { stringify } from 'yaml'
import { textOf } from '../docs/markdown.ts'
import { MANIFEST, ROOT } from '../support/checkout.ts'
import {
  type AlertRule,
  PROMETHEUS_FOLDER,
  type RuleTestCase,
  readRules,
  readRuleTests,
  rulesOf,
  secondsOf,
} from './alerts.ts'
import { type Finished, missing, runInstalled } from './installed-program.ts'

/*
 * The alert rules are checked and tested with Prometheus's own tool. A rule that is made wrong must fail those tests.
 */

const RULES = rulesOf(readRules())
const CASES = readRuleTests().tests.flatMap(({ alert_rule_test }) => alert_rule_test)
const skip = missing('promtool')
const HOMEPAGE = MANIFEST.homepage.replace('#readme', '')

const promtool = (...args: string[]) => runInstalled('promtool', args, PROMETHEUS_FOLDER)

test('promtool accepts the configuration, and the rules that it names', { skip }, async () => {
  const { code, output } = await promtool('check', 'config', 'prometheus.yml')
  assert.equal(code, 0, output)
  assert.match(output, new RegExp(`SUCCESS: ${RULES.length} rules found`))
})

test('each alert fires when its tests say so, and no other time', { skip }, async () => {
  const { code, output } = await promtool('test', 'rules', 'alerts.test.yml')
  assert.equal(code, 0, output)
})

test('the tests ask of each alert whether it is silent in good times, and one scrape before it fires', () => {
  const scrape = secondsOf(readRuleTests().evaluation_interval)
  assert.ok(RULES.length > 10, 'the rules are read')
  for (const { alert, for: wait } of RULES) {
    const cases = CASES.filter(({ alertname }) => alertname === alert)
    const at = (fires: boolean) =>
      cases
        .filter(({ exp_alerts }) => exp_alerts.length > 0 === fires)
        .map(({ eval_time }) => secondsOf(eval_time))
    const early = at(true).filter(time => at(false).includes(time - scrape))
    assert.ok(early.length > 0, `no test says that ${alert} is silent one scrape before it fires`)
    assert.ok(
      early.every(time => time >= secondsOf(wait)),
      alert,
    )
    assert.ok(isSilentInGoodTimes(alert), `no test says that ${alert} is silent with two healthy workers`)
  }
  const unknown = CASES.filter(({ alertname }) => !RULES.some(({ alert }) => alert === alertname))
  assert.deepEqual(unknown, [])
})

/** What can be wrong with a rule. Each returns whether the rule has it at all. */
const FAULTS: Record<string, (rule: AlertRule) => boolean> = {
  'fires always': rule => replaceExpression(rule, 'vector(1)'),
  'fires never': rule => replaceExpression(rule, 'vector(1) > 2'),
  'fires at once': rule =>
    delete rule.for && secondsOf(RULES.find(({ alert }) => alert === rule.alert)!.for) > 0,
  'fires a scrape late': rule => {
    rule.for = `${secondsOf(rule.for) + 15}s`
    return true
  },
  'fires for each worker': rule =>
    replaceExpression(
      rule,
      rule.expr.replaceAll(/\b(?:max|min|sum) by \(([^)]*)\)/g, 'max by (instance, $1)'),
    ),
  'judges the smallest': rule => {
    const { expr } = rule
    // In the tests of the other rules, both workers say the same.
    return expr.includes('healthy') && replaceExpression(rule, expr.replaceAll('max by', 'min by'))
  },
  'has another limit': rule =>
    replaceExpression(
      rule,
      rule.expr.replace(/(>=?|==) (\d+)$/, (_, sign, limit) => `${sign} ${Number(limit) * 10 + 5}`),
    ),
  'has no severity': rule => {
    if (rule.labels === undefined) return false
    rule.labels = {}
    return true
  },
  'tells no value': rule => {
    const text = JSON.stringify(rule.annotations)
    rule.annotations = JSON.parse(text.replaceAll(/\{\{.*?\}\}/g, '?'))
    return JSON.stringify(rule.annotations) !== text
  },
}

for (const [fault, apply] of Object.entries(FAULTS)) {
  test(`a rule that ${fault} fails the tests of the rules`, { skip }, async () => {
    const broken = readRules()
    const faulty = rulesOf(broken).filter(rule => apply(rule))
    assert.ok(faulty.length > 0, 'some rule can have the fault')
    const { output } = await testRules(stringify(broken))
    const survivors = faulty.filter(({ alert }) => !output.includes(`alertname: ${alert},`))
    assert.deepEqual(
      survivors.map(({ alert }) => alert),
      [],
      output,
    )
  })
}

test('each alert has a severity, a summary, a description, and a page that tells what to do', () => {
  for (const { alert, labels, annotations, expr } of RULES) {
    // The verdict gives the severity of a rule that covers several problems, so the expression keeps it.
    const severity = labels?.severity
    assert.ok(
      severity ? ['critical', 'warning'].includes(severity) : /by \([^)]*\bseverity\b/.test(expr),
      alert,
    )
    assert.deepEqual(Object.keys(annotations), ['summary', 'description', 'runbook_url'], alert)
    assert.ok(annotations.runbook_url!.startsWith(`${HOMEPAGE}/blob/main/docs/`), annotations.runbook_url)
  }
})

test('the page that an alert leads to exists, and has the paragraph', () => {
  for (const { alert, annotations } of RULES) {
    const [file, anchor] = annotations.runbook_url!.slice(`${HOMEPAGE}/blob/main/`.length).split('#')
    assert.ok(existsSync(path.join(ROOT, file!)), `${alert}: ${file} does not exist`)
    if (anchor === undefined || anchor.startsWith('{{')) continue
    assert.ok(anchorsOf(file!).includes(anchor), `${alert}: ${file} has no heading #${anchor}`)
  }
  const paragraphs = anchorsOf('docs/runbook.md')
  for (const code of problemCodes())
    assert.ok(paragraphs.includes(code), `docs/runbook.md has no heading ${code}`)
})

test('docs/monitoring.md lists the alerts with their severities', () => {
  const listed = [...textOf('docs/monitoring.md').matchAll(/^\| `(WorkspaceUsage\w+)` \| ([\w ]+) \|/gm)]
  assert.deepEqual(
    listed.map(([, alert, severity]) => `${alert} ${severity}`).sort(),
    RULES.map(({ alert, labels }) => `${alert} ${labels?.severity ?? 'as the verdict says'}`).sort(),
  )
})

test('an alert on one problem is no more and no less severe than the runbook says of that problem', () => {
  const runbook = textOf('docs/runbook.md')
  const judged = RULES.filter(({ expr }) => !expr.startsWith('up')).flatMap(
    ({ alert, labels, annotations }) => {
      const [, code] = /runbook\.md#([\w-]+)$/.exec(annotations.runbook_url!) ?? []
      return code && labels?.severity ? [{ alert, code, severity: labels.severity }] : []
    },
  )
  assert.ok(judged.length > 5, 'the alerts are read')
  for (const { alert, code, severity } of judged) {
    const [, paragraph] = runbook.split(`\n## ${code}\n`)
    // It begins with "Critical", "Warning", or with both if that depends.
    const opening = paragraph!.trim().split('. ')[0]!
    assert.match(opening, new RegExp(severity, 'i'), `${alert} is ${severity}; ${code}: ${opening}`)
  }
})

test('each code of the verdict has an alert: its own, or the one for all others', () => {
  const codes = problemCodes()
  assert.ok(codes.length > 10, 'the codes are read')
  const others = RULES.find(({ alert }) => alert === 'WorkspaceUsageProblem')!
  const own = /code!~"([^"]+)"/.exec(others.expr)![1]!.split('|')
  for (const code of own) {
    assert.ok(codes.includes(code), `there is no code ${code}`)
    const anchor = `docs/runbook.md#${code}`
    assert.ok(
      RULES.some(({ annotations }) => annotations.runbook_url!.endsWith(anchor)),
      `no alert for ${code}`,
    )
  }
  const used = RULES.flatMap(({ expr }) => [...expr.matchAll(/code="([^"]+)"/g)].map(([, code]) => code!))
  for (const code of used) assert.ok(own.includes(code), `${code} has two alerts`)
})

function isSilentInGoodTimes(alert: string): boolean {
  const [healthy] = readRuleTests().tests
  const isOf = ({ alertname }: RuleTestCase) => alertname === alert
  return (
    healthy!.alert_rule_test.some(isOf) &&
    healthy!.alert_rule_test.every(({ exp_alerts }) => exp_alerts.length === 0)
  )
}

function replaceExpression(rule: AlertRule, expr: string): boolean {
  if (rule.expr === expr) return false
  rule.expr = expr
  return true
}

/** Runs the tests of the rules with other rules. */
async function testRules(rules: string): Promise<Finished> {
  const folder = mkdtempSync(path.join(tmpdir(), 'workspace-usage-rules-'))
  try {
    cpSync(path.join(PROMETHEUS_FOLDER, 'alerts.test.yml'), path.join(folder, 'alerts.test.yml'))
    writeFileSync(path.join(folder, 'alerts.yml'), rules)
    return await runInstalled('promtool', ['test', 'rules', 'alerts.test.yml'], folder)
  } finally {
    rmSync(folder, { recursive: true })
  }
}

function problemCodes(): string[] {
  const text = readFileSync(path.join(ROOT, 'src/activity/problem.ts'), 'utf8')
  return [...text.slice(text.indexOf('type ProblemCode')).matchAll(/^ {2}\| '([\w-]+)'$/gm)].map(
    ([, code]) => code!,
  )
}

function anchorsOf(page: string): string[] {
  return [...textOf(page).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}
