import { adoptionWarnings } from '../schema/adoption-warnings.ts'
import { workspacesTable } from '../schema/workspaces-table.ts'
import { ask, type Check, type Looked, type Subject } from './check.ts'

/** With fewer updates, their share says nothing. */
const ENOUGH_UPDATES = 1_000

/** With a smaller share of HOT updates, something is wrong. */
const LEAST_HOT_SHARE = 0.5

const FULL_PAGES = 100

/** Checks of the host's table. */
export const WORKSPACES_CHECKS: readonly Check[] = [
  { area: 'workspaces', name: 'table', look: lookAtTable },
  { area: 'workspaces', name: 'fillfactor', look: lookAtFillfactor },
  { area: 'workspaces', name: 'HOT updates', look: lookAtUpdates },
]

async function lookAtTable({ db }: Subject): Promise<Looked> {
  const warnings = await adoptionWarnings(db)
  const table = await workspacesTable(db)
  return {
    ...(table !== null && table.views.length > 0 && { seen: `a view of ${table.text}` }),
    findings: warnings.map(({ code, object, consequence, remedy }) => ({
      code,
      severity: code === 'update-refused' ? 'critical' : 'warning',
      object,
      message: consequence,
      remedy,
    })),
  }
}

/** The host's table, or its partitions that hold rows. `$1` is the table. */
const STORED = `
  WITH RECURSIVE tree (oid) AS (
    SELECT $1::oid
    UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
  ), stored AS (
    SELECT c.oid, c.reloptions FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid WHERE c.relkind = 'r'
  )`

const NO_TABLE: Looked = { notChecked: 'there is no table' }

async function lookAtFillfactor({ db }: Subject): Promise<Looked> {
  const table = await workspacesTable(db)
  if (table === null) return NO_TABLE
  const rows = await ask<{ object: string; fillfactor: number | string }>(
    db,
    `${STORED}
    SELECT 'table ' || s.oid::regclass AS object, coalesce(
      (SELECT o.option_value FROM pg_catalog.pg_options_to_table(s.reloptions) o WHERE o.option_name = 'fillfactor'),
      '${FULL_PAGES}'
    ) AS fillfactor
    FROM stored s ORDER BY 1`,
    [table.oid],
  )
  const values = [...new Set(rows.map(({ fillfactor }) => String(fillfactor)))]
  return {
    seen: values.join(', '),
    findings: rows
      .filter(({ fillfactor }) => Number(fillfactor) === FULL_PAGES)
      .map(({ object }) => ({
        code: 'fillfactor',
        severity: 'note',
        object,
        message: 'Its pages are filled up, so a flush finds less room for a HOT update.',
        remedy: `ALTER ${object} SET (fillfactor = 75); it holds for pages that are written from then on.`,
      })),
  }
}

async function lookAtUpdates({ db }: Subject): Promise<Looked> {
  const table = await workspacesTable(db)
  if (table === null) return NO_TABLE
  const [row] = await ask<{ updates: string; hot: string; since: string | null }>(
    db,
    `${STORED}
    SELECT coalesce(sum(t.n_tup_upd), 0)::text AS updates, coalesce(sum(t.n_tup_hot_upd), 0)::text AS hot,
      (
        SELECT pg_catalog.to_char(stats_reset AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI"Z"')
        FROM pg_catalog.pg_stat_database WHERE datname = current_database()
      ) AS since
    FROM stored s JOIN pg_catalog.pg_stat_all_tables t ON t.relid = s.oid`,
    [table.oid],
  )
  const [updates, hot] = [Number(row!.updates), Number(row!.hot)]
  if (updates === 0) return { seen: 'no updates yet' }
  const share = `${Math.round((hot / updates) * 100)} % of ${updates} updates`
  if (updates < ENOUGH_UPDATES || hot / updates >= LEAST_HOT_SHARE) return { seen: share }
  return {
    seen: share,
    findings: [
      {
        code: 'few-hot-updates',
        severity: 'warning',
        object: `table ${table.shown}`,
        message:
          `Only ${share} were HOT${row!.since === null ? '' : ` since ${row!.since}`}. Each other one adds an entry to ` +
          'every index of the table.',
        remedy:
          `Keep ${table.lastUsed?.name} out of all indexes, and set a fillfactor of 75. VACUUM FULL or pg_repack makes ` +
          'room at once.',
      },
    ],
  }
}
