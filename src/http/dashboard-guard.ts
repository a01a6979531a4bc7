import type { MiddlewareHandler } from 'hono'
import { basicAuth } from 'hono/basic-auth'
import { namesLoopback } from './loopback.ts'

/** Name and password of the dashboard. */
export interface Credentials {
  username: string
  password: string
}

/** Who may do what with the dashboard. */
export interface DashboardRules {
  /** Null: nobody is asked for a password. It may listen on loopback only then. */
  credentials: Credentials | null
  /** Whether jobs can be run, retried and deleted with it. */
  write: boolean
}

/** What stands before the dashboard, in this order. */
export function dashboardGuards({ credentials, write }: DashboardRules): MiddlewareHandler[] {
  const password = credentials && basicAuth({ ...credentials, realm: 'workspace-usage dashboard' })
  return [headers, password ?? onlyLoopbackNames, write ? onlyOwnPages : onlyReading]
}

/** No other site may put the dashboard into a frame, and get a click on its buttons. */
const headers: MiddlewareHandler = async (context, next) => {
  await next()
  context.header('Content-Security-Policy', "frame-ancestors 'none'")
  context.header('X-Frame-Options', 'DENY')
  context.header('X-Content-Type-Options', 'nosniff')
  context.header('Referrer-Policy', 'same-origin')
}

/**
 * A web page can give its own name an address of this machine, and then read what the browser gets from there. The
 * browser still sends the name of that page.
 */
const onlyLoopbackNames: MiddlewareHandler = async (context, next) => {
  if (namesLoopback(context.req.header('host'))) return await next()
  const text =
    'Without a password the dashboard answers to loopback names only, such as 127.0.0.1 or localhost. ' +
    'Set PGBOSS_DASHBOARD_AUTH_USERNAME and PGBOSS_DASHBOARD_AUTH_PASSWORD to use another name.\n'
  return context.text(text, 421)
}

const READS = ['GET', 'HEAD']

/** All that changes something in the dashboard is a POST. */
const onlyReading: MiddlewareHandler = async (context, next) => {
  if (READS.includes(context.req.method)) return await next()
  return context.text(
    'This dashboard is read-only. Start the worker with --dashboard-write to change jobs.\n',
    403,
  )
}

/**
 * A form of another site is sent with the password that the browser knows. The dashboard has a check of its own, which
 * takes the scheme into account and so fails behind a proxy that ends TLS. This one does not.
 */
const onlyOwnPages: MiddlewareHandler = async (context, next) => {
  const { method } = context.req
  if (READS.includes(method)) return await next()
  if (method !== 'POST') return context.text('Allowed: GET, HEAD, POST.\n', 405, { Allow: 'GET, HEAD, POST' })
  const site = context.req.header('sec-fetch-site')
  const origin = context.req.header('origin')
  const own = URL.canParse(origin ?? '') && new URL(origin!).host === context.req.header('host')
  if ((site === undefined || site === 'same-origin' || site === 'none') && (origin === undefined || own)) {
    return await next()
  }
  return context.text('Only pages of the dashboard may change something here.\n', 403)
}
