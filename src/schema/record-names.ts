import { fileURLToPath } from 'node:url'

/** Where Kysely records which migrations have run. Its default name may be in use by the host's own migrations. */
export const RECORD_TABLE = 'workspace_usage_migration'

/** What the comment of that table begins with. The names of the migrations follow. */
export const RECORD_COMMENT = 'Migrations of workspace-usage that have run: '

/** The folder of the migrations. */
export const MIGRATION_FOLDER = fileURLToPath(new URL('../../migrations', import.meta.url))
