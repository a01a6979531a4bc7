import { readFileSync } from 'node:fs'
import path from 'node:path'
import type { TestDatabase } from './database.ts'

/** Versions of pg-boss whose schema was recorded. 11.1.1 is the oldest that pg-boss 12 can upgrade. */
export const OLDER_PG_BOSS = ['11.1.1', '12.30.0'] as const

/** Creates what an older pg-boss of the host left: its schema, a partitioned queue `mails`, and one job in it. */
export async function installOlderPgBoss(
  { pool }: TestDatabase,
  version: (typeof OLDER_PG_BOSS)[number],
): Promise<void> {
  const file = path.join(import.meta.dirname, `../schema/older-pg-boss/${version}.sql`)
  await pool.query(readFileSync(file, 'utf8'))
}
