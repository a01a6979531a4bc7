import type { DashboardHandler } from '@pg-boss/dashboard/handler'
import { Hono } from 'hono'
import { answerWithin } from '../database/deadline.ts'
import { DashboardCredentialError, DashboardMissingError, InvalidOptionError } from '../errors.ts'
import { JOB_SCHEMA } from '../worker/queue.ts'
import { type Credentials, type DashboardRules, dashboardGuards } from './dashboard-guard.ts'
import type { Place } from './listen.ts'
import { isLoopback } from './loopback.ts'

/** The path below which the dashboard is served. */
export const DASHBOARD_PATH = '/queues'

/** The longest wait for a page, in ms. */
const PAGE_TIMEOUT_MS = 30_000

const PACKAGE = '@pg-boss/dashboard'
const USERNAME = 'PGBOSS_DASHBOARD_AUTH_USERNAME'
const PASSWORD = 'PGBOSS_DASHBOARD_AUTH_PASSWORD'

/** How the dashboard is served. */
export interface DashboardOptions {
  /** Whether jobs can be run, retried and deleted with it. */
  write: boolean
  username?: string | undefined
  password?: string | undefined
}

/** The dashboard of pg-boss. */
export interface Dashboard {
  routes: Hono
  /** Ends its connections, once their statements are answered. */
  close(): Promise<void>
}

/**
 * Checks who could reach the dashboard.
 *
 * @returns Name and password. Null if none is needed and none is set.
 * @throws {DashboardCredentialError} If others than this machine can reach it without a password, or if only the name or
 *   only the password is set.
 * @throws {InvalidOptionError} If the name holds a colon. HTTP has no way to send such a name.
 */
export function dashboardCredentials(
  { username = '', password = '' }: DashboardOptions,
  { host, address }: Place,
): Credentials | null {
  const missing = [username === '' && USERNAME, password === '' && PASSWORD].filter(name => name !== false)
  if (missing.length === 1) throw new DashboardCredentialError(host, missing)
  if (username.includes(':')) throw new InvalidOptionError(USERNAME, username, 'a name without a colon')
  if (missing.length === 0) return { username, password }
  if (!isLoopback(address)) throw new DashboardCredentialError(host, missing)
  return null
}

/**
 * Loads the dashboard. It connects when it is first used, with at most ten connections of its own, and a few more once
 * somebody changes something with it.
 *
 * @throws {DashboardMissingError} If its package is not installed.
 */
export async function openDashboard(connectionString: string, rules: DashboardRules): Promise<Dashboard> {
  const { createDashboardHandler } = await loadPackage()
  const releaseReadOnly = rules.write ? () => {} : hideButtons()
  const handler = createDashboardHandler({
    databases: [{ url: named(connectionString), schema: JOB_SCHEMA }],
    basePath: DASHBOARD_PATH,
    // Our guards ask for the password, and look where a form comes from. Without `auth` it would print on standard
    // output, which is the log.
    auth: true,
    allowedActionOrigins: ['**'],
  })
  return {
    routes: dashboardRoutes(handler, rules),
    close: async () => {
      releaseReadOnly()
      await handler.close()
    },
  }
}

function dashboardRoutes(handler: DashboardHandler, rules: DashboardRules): Hono {
  const routes = new Hono()
  for (const path of [DASHBOARD_PATH, `${DASHBOARD_PATH}.data`, `${DASHBOARD_PATH}/*`]) {
    routes.use(path, ...dashboardGuards(rules))
    routes.all(path, ({ req }) =>
      answerWithin(
        PAGE_TIMEOUT_MS,
        () => handler(req.raw),
        () => {},
      ),
    )
  }
  return routes
}

async function loadPackage(): Promise<typeof import('@pg-boss/dashboard/handler')> {
  try {
    return await import('@pg-boss/dashboard/handler')
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    if (code === 'ERR_MODULE_NOT_FOUND' && message.includes(`'${PACKAGE}'`)) {
      throw new DashboardMissingError(PACKAGE, { cause: error })
    }
    throw error
  }
}

/** The dashboard hides its buttons if this is set. It also refuses to change anything, as our guard does. */
function hideButtons(): () => void {
  const variable = 'PGBOSS_DASHBOARD_READ_ONLY'
  const before = process.env[variable]
  process.env[variable] = '1'
  return () => {
    if (before === undefined) delete process.env[variable]
    else process.env[variable] = before
  }
}

/** Lets `pg_stat_activity` tell whose connections they are. */
function named(connectionString: string): string {
  if (!URL.canParse(connectionString)) return connectionString
  const url = new URL(connectionString)
  if (!url.searchParams.has('application_name')) {
    url.searchParams.set('application_name', 'workspace-usage dashboard')
  }
  return url.href
}
