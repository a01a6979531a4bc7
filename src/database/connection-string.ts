import { accessSync, constants } from 'node:fs'
import { closestMatch } from 'leven'

/** What a connection string may be. */
const A_URL = 'a URL such as postgres://user@host:5432/database'

const SSL_MODES = ['disable', 'prefer', 'require', 'verify-ca', 'verify-full', 'no-verify']

const ENCODED =
  'special characters of the user and the password are percent-encoded: %40 for @, %2F for /, %3F for ?, %23 for #, ' +
  '%25 for %'

/** The parameters that `pg` or the server uses. */
const USED = [
  ...[
    'host',
    'port',
    'user',
    'password',
    'db',
    'encoding',
    'client_encoding',
    'options',
    'replication',
    'binary',
  ],
  ...['application_name', 'fallback_application_name', 'statement_timeout', 'lock_timeout', 'query_timeout'],
  ...['idle_in_transaction_session_timeout', 'ssl', 'sslmode', 'sslcert', 'sslkey', 'sslrootcert'],
  ...['sslnegotiation', 'uselibpqcompat'],
]

/**
 * Parameters that `pg` ignores. Other drivers know them, and hosted databases put them into the URL that they show. They
 * change nothing that matters here.
 */
const IGNORED = [
  ...['connect_timeout', 'keepalives', 'keepalives_idle', 'keepalives_interval', 'keepalives_count'],
  ...[
    'tcp_user_timeout',
    'target_session_attrs',
    'load_balance_hosts',
    'channel_binding',
    'gssencmode',
    'krbsrvname',
  ],
  ...['require_auth', 'sslcompression', 'sslsni', 'sslcrl', 'sslcrldir', 'ssl_min_protocol_version'],
  ...['ssl_max_protocol_version', 'passfile', 'hostaddr', 'requirepeer', 'dbname'],
  ...['pgbouncer', 'connection_limit', 'pool_timeout', 'supa'],
]

/**
 * Finds what is wrong with a connection string, before `pg` misunderstands it. `pg` would take several hosts for one
 * name, and would not use TLS if `sslmode` is misspelt.
 *
 * @returns What is allowed there instead, in words that show no part of the password. Undefined if nothing is wrong.
 */
export function faultOf(connectionString: unknown): string | undefined {
  if (typeof connectionString !== 'string') return A_URL
  // The path of a socket, and the name of a database behind a space.
  if (connectionString.startsWith('/')) return undefined
  const url = /^(?:postgres(?:ql)?|socket):(?:\/\/([^/?#]*))?(.*)$/is.exec(connectionString)
  if (!url) return A_URL
  const [, authority = '', rest = ''] = url
  if (cutsPassword(authority, rest)) return `a URL in which ${ENCODED}`
  return (
    faultOfHosts(authority.slice(authority.lastIndexOf('@') + 1)) ??
    faultOfUrl(connectionString) ??
    faultOfParameters(parametersOf(connectionString))
  )
}

/**
 * Whether the password holds a `/`, `?` or `#`, which ends the part before the host. What follows must not be quoted
 * then. Only users and passwords that are parameters may hold an `@` there.
 */
function cutsPassword(authority: string, rest: string): boolean {
  return !authority.includes('@') && rest.replaceAll(/([?&])(user|password)=[^&]*/g, '$1').includes('@')
}

const quote = (text: string) => JSON.stringify(text.slice(0, 100))

const ONE_HOST =
  'one host and one port. The node-postgres driver connects to one host only: give the primary, or a name or proxy that ' +
  'follows the primary'

const A_PORT = 'a port from 1 to 65535'

function faultOfHosts(hosts: string): string | undefined {
  if (hosts.includes(',')) return ONE_HOST
  const port = /:([^:\]]*)$/.exec(hosts)?.[1]
  return port === undefined || port === '' ? undefined : faultOfPort(port)
}

function faultOfPort(port: string): string | undefined {
  if (port.includes(',')) return ONE_HOST
  const allowed = /^\d+$/.test(port) && Number(port) >= 1 && Number(port) <= 65_535
  return allowed ? undefined : A_PORT
}

function faultOfUrl(connectionString: string): string | undefined {
  try {
    const url = urlOf(connectionString)
    for (const part of [url.username, url.password, url.hostname, url.pathname]) decodeURIComponent(part)
    return undefined
  } catch {
    return `${A_URL}, in which ${ENCODED}`
  }
}

/** Reads the URL as `pg` does: without a host it stands for the default one. */
function urlOf(connectionString: string): URL {
  try {
    return new URL(connectionString, 'postgres://base')
  } catch {
    return new URL(connectionString.replace('@/', '@localhost/'), 'postgres://base')
  }
}

function parametersOf(connectionString: string): Map<string, string> {
  return new Map(urlOf(connectionString).searchParams)
}

function faultOfParameters(parameters: ReadonlyMap<string, string>): string | undefined {
  const known = [...USED, ...IGNORED]
  for (const name of parameters.keys()) {
    if (known.includes(name)) continue
    const nearest = closestMatch(name, USED, { maxDistance: 2 })
    const remedy = nearest === undefined ? 'leave it out' : `did you mean ${quote(nearest)}?`
    return `no parameter ${quote(name)} (${remedy}). The parameters that count are ${USED.join(', ')}`
  }
  const get = (name: string) => parameters.get(name) ?? ''
  if (get('host').includes(',')) return ONE_HOST
  const port = parameters.get('port')
  const faultyPort = port ? faultOfPort(port) : undefined
  if (faultyPort) return faultyPort
  return (
    faultOfChoice('sslmode', parameters.get('sslmode'), SSL_MODES) ??
    faultOfChoice('ssl', parameters.get('ssl'), ['true', '1', '0', 'no-verify']) ??
    faultOfChoice('sslnegotiation', parameters.get('sslnegotiation'), ['postgres', 'direct']) ??
    ['sslrootcert', 'sslcert', 'sslkey'].map(name => faultOfFile(name, parameters.get(name))).find(Boolean)
  )
}

function faultOfChoice(name: string, value: string | undefined, choices: string[]): string | undefined {
  if (value === undefined || choices.includes(value)) return undefined
  return `as its parameter "${name}" one of ${choices.join(', ')}, which ${quote(value)} is not`
}

function faultOfFile(name: string, path: string | undefined): string | undefined {
  if (!path) return undefined
  try {
    accessSync(path, constants.R_OK)
    return undefined
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    return `as its parameter "${name}" the path of a file that can be read, which ${quote(path)} is not (${code})`
  }
}
