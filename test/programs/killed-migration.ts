/*
 * Migrates, and kills itself before the n-th statement: `node killed-migration.ts <connection string> <n>`.
 */
import { migrate } from '../../src/schema/migrate.ts'
import { countMigrationStatements } from '../support/migration-statements.ts'

const [connectionString, place] = process.argv.slice(2)
countMigrationStatements(statement => {
  if (statement === Number(place)) process.kill(process.pid, 'SIGKILL')
})
await migrate({ connectionString: connectionString! })
