import type { Option } from 'commander'
import { HEALTH_OPTIONS } from '../../activity/health.ts'
import type { HttpPortOptions } from '../../http/http-port.ts'
import { DEFAULT_HOST } from '../../http/listen.ts'
import { integerWithin, whatever } from '../../options.ts'
import { UsageError } from '../output/failure.ts'
import { healthOptions, type VerdictOptions, verdictOptions } from './health-options.ts'
import { numberAllowedBy, textAllowedBy } from './parsers.ts'
import { switchOption, VariableOption } from './variable-option.ts'

/** The options of the HTTP port of a worker, and of the verdict that it tells. */
export interface HttpOptions extends VerdictOptions {
  port?: number
  host?: string
  dashboard: boolean
  dashboardWrite: boolean
  dashboardUsername?: string
  dashboardPassword?: string
}

const A_HOST = whatever(
  'a host name or an IP address of this machine',
  value => typeof value === 'string' && value.trim() !== '' && value.trim() === value,
)

/** Whether a port is opened, where, and what is served there. */
export function httpOptions(): Option[] {
  return [
    new VariableOption(
      '--port <port>',
      'serve /healthz, /readyz and /metrics here; 0 is any free one; default: no port',
      'WORKSPACE_USAGE_PORT',
    ).argParser(numberAllowedBy(integerWithin(0, 65_535))),
    new VariableOption(
      '--host <address>',
      `address of the port; default: ${DEFAULT_HOST}`,
      'WORKSPACE_USAGE_HOST',
    ).argParser(textAllowedBy(A_HOST)),
    switchOption('--dashboard', 'serve the pg-boss dashboard below /queues', 'WORKSPACE_USAGE_DASHBOARD'),
    switchOption(
      '--dashboard-write',
      'let the dashboard run, retry and delete jobs',
      'WORKSPACE_USAGE_DASHBOARD_WRITE',
    ),
    new VariableOption(
      '--dashboard-username <name>',
      'who may use the dashboard; needed unless only this machine reaches it',
      'PGBOSS_DASHBOARD_AUTH_USERNAME',
    ),
    new VariableOption(
      '--dashboard-password <password>',
      'other users of the machine see arguments, so use the variable',
      'PGBOSS_DASHBOARD_AUTH_PASSWORD',
    ),
    new VariableOption(
      '--max-lag <seconds>',
      'the verdict is critical above this lag; default: 180, or more if flushes are rarer',
      'WORKSPACE_USAGE_MAX_LAG',
    ).argParser(numberAllowedBy(HEALTH_OPTIONS.maxLagSeconds)),
    ...verdictOptions(),
  ]
}

/**
 * What the HTTP port is to be.
 *
 * @returns Null if none is wanted.
 * @throws {UsageError} If an option needs another one.
 */
export function httpPort(options: HttpOptions): Omit<HttpPortOptions, 'database' | 'logger'> | null {
  const { port, host, dashboard, dashboardWrite } = options
  if (dashboardWrite && !dashboard) throw new UsageError('--dashboard-write needs --dashboard')
  if (port === undefined) {
    if (dashboard) throw new UsageError('--dashboard needs --port')
    if (host !== undefined) throw new UsageError('--host needs --port')
    return null
  }
  return {
    port,
    host: host ?? DEFAULT_HOST,
    health: healthOptions(options),
    dashboard: dashboard
      ? { write: dashboardWrite, username: options.dashboardUsername, password: options.dashboardPassword }
      : null,
  }
}
