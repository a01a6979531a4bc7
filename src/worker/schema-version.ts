import { createRequire } from 'node:module'

// The doctor imports this file, so it must not load pg-boss.

const pgBoss = createRequire(import.meta.url)('pg-boss/package.json') as { pgboss: { schema: number } }

/** The schema version of this pg-boss. Its API does not tell it, and pg-boss itself reads it from its package.json. */
export const SCHEMA_VERSION = pgBoss.pgboss.schema
