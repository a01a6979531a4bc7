import { execFile } from 'node:child_process'
import { readFile } from 'node:fs/promises'
import { arch, cpus, platform, release, totalmem } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { findProgram } from '../support/programs.ts'

const NODE_MODULES = path.join(import.meta.dirname, '../../node_modules')

/** Packages whose versions matter. */
const PACKAGES = ['pg', 'pg-boss', 'graphile-worker', '@redis/client'] as const

/** Where the figures come from: names and values, in the order in which they are shown. */
export type Machine = Record<string, string>

/** Looks at this machine and at the server. */
export async function describeMachine(server: string): Promise<Machine> {
  const processors = cpus()
  return {
    processor: processors[0]?.model.trim() || 'unknown',
    cores: String(processors.length),
    memory: `${(totalmem() / 2 ** 30).toFixed(1)} GiB`,
    system: `${platform()} ${release()}, ${arch()}`,
    ...(await describeServer(server)),
    Node: process.versions.node,
    ...(await packageVersions()),
    Redis: await programVersion('redis-server', /v=([\d.]+)/),
    pgbench: await programVersion('pgbench', /([\d.]+)/),
  }
}

/** Settings of initdb for language, place and log are left out, because they change no figure. */
async function describeServer(server: string): Promise<Machine> {
  const client = new pg.Client({ connectionString: server })
  await client.connect()
  try {
    const version = await client.query<{ server_version: string }>('SHOW server_version')
    const { rows } = await client.query<{ setting: string }>(
      `SELECT name || ' = ' || current_setting(name) AS setting FROM pg_settings
      WHERE source NOT IN ('default', 'override', 'client', 'session') AND setting IS DISTINCT FROM boot_val
        AND category !~ '^(Client Connection|Connections and Auth|File Locations|Reporting)'
      ORDER BY name`,
    )
    return {
      PostgreSQL: `${version.rows[0]!.server_version}${process.env.DATABASE_URL ? ' (DATABASE_URL)' : ' (embedded)'}`,
      'settings that differ from the defaults': rows.map(row => row.setting).join(', ') || 'none',
    }
  } finally {
    await client.end()
  }
}

async function packageVersions(): Promise<Machine> {
  const versions = PACKAGES.map(async name => {
    const manifest = await readFile(path.join(NODE_MODULES, name, 'package.json'), 'utf8')
    return [name, JSON.parse(manifest).version] as const
  })
  return Object.fromEntries(await Promise.all(versions))
}

async function programVersion(name: 'pgbench' | 'redis-server', pattern: RegExp): Promise<string> {
  const program = findProgram(name)
  if (program === undefined) return 'not there'
  const { stdout } = await promisify(execFile)(program, ['--version'])
  return pattern.exec(stdout)?.[1] ?? 'unknown'
}
