import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import type { ChartSpec } from '../../bench/measure.ts'
import { chartSvg } from '../../bench/report/chart.ts'
import { resultsPage } from '../../bench/report/results-page.ts'
import { screen } from '../../bench/report/screen.ts'
import { writeReport } from '../../bench/report/write.ts'
import { CHART, REPORT } from './fixed-report.ts'
import { assertWellFormed } from './well-formed.ts'

test('the page of results tells each outcome: met, missed, left out, skipped, failed and not run', async () => {
  const golden = await readFile(path.join(import.meta.dirname, 'RESULTS.golden.md'), 'utf8')
  assert.equal(resultsPage(REPORT), golden)
})

test('the page of results over a small table judges no target', () => {
  const page = resultsPage({ ...REPORT, workspaces: 1_000, judged: false })
  assert.match(page, /with 1,000 workspaces/)
  assert.match(page, /at most 40 bytes \| not judged \|/)
  assert.doesNotMatch(page, /missed/)
})

test('the screen tells the same of each outcome', () => {
  const [measured, partly, skipped, failed] = REPORT.outcomes.map(outcome => screen(outcome, true))
  assert.match(measured!, /✔ to theirs: 4.76 times, at least 4.5 times \(met\)/)
  assert.match(measured!, /✘ WAL of a mark: 41 bytes, at most 40 bytes \(missed\)/)
  assert.match(measured!, /theirs \(random ids\).*0.21 ×/)
  assert.match(partly!, /left out: no redis-server on PATH/)
  assert.match(skipped!, /skipped: no pgbench on PATH/)
  assert.match(failed!, /✘ failed: relation "x" does not exist/)
})

test('a chart is well-formed SVG that holds its title, its names and its values', () => {
  const svg = chartSvg(CHART)
  assertWellFormed(svg)
  assert.match(svg, /^<svg [^>]*xmlns="http:\/\/www.w3.org\/2000\/svg"/)
  for (const text of ['Marks &amp; jobs &lt;of&gt;', 'UPDATE … WHERE id = $1', '57,100']) {
    assert.ok(svg.includes(text), text)
  }
})

test('a chart of lines with a gap, on a logarithmic axis, is well-formed SVG', () => {
  const lines: ChartSpec = {
    ...CHART,
    kind: 'line',
    log: true,
    subtitle: 'less is better',
    categories: ['1', '2', '4'],
    series: [
      { name: 'ours', values: [1, 2, 4] },
      { name: 'theirs', values: [10, null, 1_000] },
    ],
  }
  const svg = chartSvg(lines)
  assertWellFormed(svg)
  for (const text of ['ours', 'theirs', 'less is better', 'marks per second'])
    assert.ok(svg.includes(text), text)
})

test('a report is written as a page and one file for each chart, and the page shows these files', async () => {
  const directory = await mkdtemp(path.join(tmpdir(), 'bench-'))
  try {
    const files = await writeReport(REPORT, ({ title }) => `<svg>${title}</svg>`, directory)
    assert.equal(files.length, 2)
    assert.deepEqual(await readdir(path.join(directory, 'charts')), ['marks.svg'])
    const page = await readFile(path.join(directory, 'RESULTS.md'), 'utf8')
    assert.match(page, /\]\(charts\/marks\.svg\)/)
  } finally {
    await rm(directory, { recursive: true })
  }
})
