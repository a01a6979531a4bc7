import { Command, Option } from 'commander'
import { migrate, migrateDown } from '../../schema/migrate.ts'
import { type DatabaseOptions, databaseOption } from '../options/database-option.ts'
import { type JsonOptions, jsonOption, printJson } from '../options/json-option.ts'
import { createLogger, logLevelOption } from '../options/log-options.ts'

interface Options extends DatabaseOptions, JsonOptions {
  down: boolean
  logLevel: string
}

export function migrateCommand(): Command {
  return new Command('migrate')
    .description('create or upgrade the tables, the pg-boss schema, the queue and the schedule')
    .addOption(databaseOption())
    .addOption(
      new Option('--down', 'take back the newest migration instead')
        .env('WORKSPACE_USAGE_DOWN')
        .default(false)
        .preset(true),
    )
    .addOption(jsonOption())
    .addOption(logLevelOption('warn'))
    .action(async ({ databaseUrl, down, json, logLevel }: Options) => {
      const options = { connectionString: databaseUrl, logger: createLogger(logLevel, 2) }
      if (down) {
        const reverted = await migrateDown(options)
        if (json) printJson({ reverted })
        else console.log(reverted === null ? 'nothing to take back' : `took back ${reverted}`)
        return
      }
      const { applied, queue } = await migrate(options)
      if (json) return printJson({ applied, queue })
      for (const name of applied) console.log(`migrated ${name}`)
      if (applied.length === 0) console.log('the schema is up to date')
      console.log(`queue ${queue.queue}, schedule "${queue.cron}", pg-boss schema ${queue.schemaVersion}`)
    })
}
