import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { stringify } from 'yaml'
import { freePort } from '../../dev/postgres/free-port.ts'
import { atEnd } from '../support/at-end.ts'
import { until } from '../support/poll.ts'
import { PROMETHEUS_FOLDER } from './alerts.ts'

/** A rule, as a running Prometheus judges it. */
export interface JudgedRule {
  name: string
  health: string
  lastError?: string
  state: 'inactive' | 'pending' | 'firing'
}

/** A Prometheus that scrapes every second, with our rules. */
export interface RunningPrometheus {
  /** The number of series that an expression finds now. @throws Error if it is refused */
  count(expression: string): Promise<number>
  rules(): Promise<JudgedRule[]>
}

/** Starts the installed Prometheus, which scrapes an address for each job. It is stopped at the file's end. */
export async function startPrometheus(jobs: Record<string, string>): Promise<RunningPrometheus> {
  const folder = mkdtempSync(path.join(tmpdir(), 'workspace-usage-prometheus-'))
  cpSync(path.join(PROMETHEUS_FOLDER, 'alerts.yml'), path.join(folder, 'alerts.yml'))
  writeFileSync(path.join(folder, 'prometheus.yml'), stringify(configuration(jobs)))
  const address = `127.0.0.1:${await freePort()}`
  const child = spawn(
    'prometheus',
    ['--config.file=prometheus.yml', '--storage.tsdb.path=data', `--web.listen-address=${address}`],
    { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] },
  )
  let said = ''
  child.stderr.setEncoding('utf8').on('data', text => {
    said += text
  })
  const ended = once(child, 'close')
  atEnd(async () => {
    child.kill('SIGKILL')
    await ended
    rmSync(folder, { recursive: true })
  })
  const ask = async (question: string) => {
    const response = await fetch(`http://${address}/api/v1/${question}`)
    const answer = (await response.json()) as { status: string; error?: string; data: unknown }
    if (answer.status !== 'success') throw new Error(`${question}: ${answer.error}`)
    return answer.data
  }
  await until('Prometheus answers', async () => {
    if (child.exitCode !== null) return said
    return await ask('query?query=1')
  })
  if (child.exitCode !== null) throw new Error(`Prometheus has ended: ${said}`)
  return {
    count: async expression => {
      const { resultType, result } = (await ask(`query?query=${encodeURIComponent(expression)}`)) as {
        resultType: string
        result: unknown[]
      }
      return resultType === 'vector' ? result.length : 1
    },
    rules: async () => {
      const { groups } = (await ask('rules')) as { groups: { rules: JudgedRule[] }[] }
      return groups.flatMap(({ rules }) => rules)
    },
  }
}

function configuration(jobs: Record<string, string>): unknown {
  return {
    global: { scrape_interval: '1s', evaluation_interval: '1s' },
    rule_files: ['alerts.yml'],
    scrape_configs: Object.entries(jobs).map(([job_name, target]) => ({
      job_name,
      static_configs: [{ targets: [target] }],
    })),
  }
}
