import { JOB_SCHEMA } from '../worker/queue.ts'
import { SCHEMA_VERSION } from '../worker/schema-version.ts'
import { ask, type Check, type Looked, type Subject } from './check.ts'
import type { Finding } from './finding.ts'

/** Checks of pg-boss. Whether the queue and its schedule are there, the verdict of the health tells. */
export const QUEUE_CHECKS: readonly Check[] = [
  { area: 'queue', name: 'pg-boss', needsTables: true, look: lookAtVersion },
]

async function lookAtVersion({ db }: Subject): Promise<Looked> {
  const [installed] = await ask<{ readable: boolean }>(
    db,
    `SELECT pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AS readable
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = 'version'`,
    [JOB_SCHEMA],
  )
  if (!installed) return { findings: [MISSING] }
  if (!installed.readable) return { notChecked: `the role may not read ${JOB_SCHEMA}.version` }
  const [row] = await ask<{ version: string }>(db, `SELECT version::text FROM ${JOB_SCHEMA}.version`)
  if (!row) return { findings: [UNVERSIONED] }
  return { seen: `schema version ${row.version}`, findings: ofVersion(Number(row.version)) }
}

function ofVersion(version: number): Finding[] {
  if (version === SCHEMA_VERSION) return []
  const isOld = version < SCHEMA_VERSION
  return [
    {
      code: isOld ? 'pg-boss-old' : 'pg-boss-new',
      severity: 'critical',
      object: `schema ${JOB_SCHEMA}`,
      message: `pg-boss's schema has version ${version}, and this package works with ${SCHEMA_VERSION}. Its workers do not start.`,
      remedy: isOld
        ? 'Run: workspace-usage migrate'
        : 'A newer pg-boss has upgraded it. Upgrade workspace-usage to a release that works with that version.',
    },
  ]
}

const MISSING: Finding = {
  code: 'pg-boss-missing',
  severity: 'critical',
  object: `schema ${JOB_SCHEMA}`,
  message: 'pg-boss is not installed. No worker starts.',
  remedy: 'Run: workspace-usage migrate',
}

const UNVERSIONED: Finding = {
  code: 'pg-boss-unversioned',
  severity: 'critical',
  object: `schema ${JOB_SCHEMA}`,
  message: "pg-boss's schema tells no version, as if it was restored without rows. No worker starts.",
  remedy: 'Run: workspace-usage migrate. It tells what to do if that is not the schema of its pg-boss.',
}
