import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

// The doctor imports this file, so it must not load pg-boss.

const manifest = createRequire(import.meta.url).resolve('pg-boss/package.json')
const pgBoss = JSON.parse(readFileSync(manifest, 'utf8')) as { pgboss: { schema: number } }

/** The schema version of this pg-boss. Its API does not tell it, and pg-boss itself reads it from its package.json. */
export const SCHEMA_VERSION = pgBoss.pgboss.schema
