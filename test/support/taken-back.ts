import { migrateDown } from '../../src/schema/migrate-down.ts'

/** Takes back the migration that dropped the check of a source, and later ones. */
export async function takeBackCheck(connectionString: string, schema?: string): Promise<void> {
  const options = schema === undefined ? { connectionString } : { connectionString, schema }
  while ((await migrateDown(options)) !== '0019_no_check_of_a_mark');
}
