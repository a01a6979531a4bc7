import { ask, type Check } from './check.ts'
import type { Finding } from './finding.ts'

/** The versions of PostgreSQL that this package is tested with. */
const OLDEST_SERVER = 14
const NEWEST_SERVER = 18

/** With fewer connections left, a few more services may be refused. */
const FEW_CONNECTIONS = 10

/** Checks of the server as a whole. */
export const SERVER_CHECKS: readonly Check[] = [
  {
    area: 'server',
    name: 'version',
    look: async ({ db }) => {
      const [row] = await ask<{ number: string; version: string }>(
        db,
        `SELECT current_setting('server_version_num') AS number, current_setting('server_version') AS version`,
      )
      const major = Math.floor(Number(row!.number) / 10_000)
      return { seen: `PostgreSQL ${row!.version}`, findings: ofVersion(major) }
    },
  },
  {
    area: 'server',
    name: 'primary',
    look: async ({ db, standby }) => {
      const [row] = await ask<{ readonly: string }>(
        db,
        `SELECT current_setting('default_transaction_read_only') AS readonly`,
      )
      return { findings: standby ? [STANDBY] : row!.readonly === 'on' ? [READ_ONLY] : [] }
    },
  },
  {
    area: 'server',
    name: 'durability',
    look: async ({ db }) => {
      const rows = await ask<{ name: string }>(
        db,
        `SELECT name FROM unnest(ARRAY['fsync', 'full_page_writes']) AS name
        WHERE current_setting(name) = 'off' ORDER BY name`,
      )
      return { findings: rows.map(({ name }) => notDurable(name)) }
    },
  },
  {
    area: 'server',
    name: 'connections',
    look: async ({ db }) => {
      const [row] = await ask<{ used: string; allowed: string }>(
        db,
        `SELECT
          (SELECT coalesce(sum(numbackends), 0) FROM pg_catalog.pg_stat_database)::text AS used,
          (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
            - coalesce(current_setting('reserved_connections', true)::int, 0))::text AS allowed`,
      )
      const [used, allowed] = [Number(row!.used), Number(row!.allowed)]
      const findings = allowed - used < FEW_CONNECTIONS ? [fewConnections(used, allowed)] : []
      return { seen: `${used} of ${allowed} in use`, findings }
    },
  },
]

function ofVersion(major: number): Finding[] {
  if (major >= OLDEST_SERVER && major <= NEWEST_SERVER) return []
  const isOld = major < OLDEST_SERVER
  return [
    {
      code: 'server-version',
      severity: isOld ? 'critical' : 'note',
      object: `PostgreSQL ${major}`,
      message: isOld
        ? `PostgreSQL ${major} lacks what this package needs.`
        : `This release was not tested with PostgreSQL ${major}.`,
      remedy: isOld
        ? `Use PostgreSQL ${OLDEST_SERVER} to ${NEWEST_SERVER}.`
        : 'Look whether there is a newer release of workspace-usage.',
    },
  ]
}

const STANDBY: Finding = {
  code: 'standby',
  severity: 'critical',
  object: null,
  message:
    'This server is a standby. Nothing can be marked, flushed or read there, because pending_usage is UNLOGGED.',
  remedy: 'Connect to the primary: use its own host name, or a name that follows the primary.',
}

const READ_ONLY: Finding = {
  code: 'read-only',
  severity: 'critical',
  object: null,
  message:
    'Transactions are read-only by default (default_transaction_read_only). Marks and flushes are refused.',
  remedy:
    'Take the setting back for the role or the database: ALTER ROLE … or ALTER DATABASE … RESET default_transaction_read_only.',
}

function notDurable(name: string): Finding {
  return {
    code: 'not-durable',
    severity: 'note',
    object: `setting ${name}`,
    message: `${name} is off. A crash of the machine can damage the whole database, what was flushed included.`,
    remedy: `Set ${name} = on, unless the database is only for tests.`,
  }
}

function fewConnections(used: number, allowed: number): Finding {
  return {
    code: 'few-connections',
    severity: 'note',
    object: null,
    message: `${used} of ${allowed} connections are in use. A worker that can't connect does not flush.`,
    remedy: 'Raise max_connections, or put a pooler between: transaction mode is enough.',
  }
}
