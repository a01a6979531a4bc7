import { Option } from 'commander'
import { formatDuration } from '../../duration.ts'
import type { AdoptionOptions } from '../../schema/adopt.ts'
import { describeTable } from '../../schema/adopted-table.ts'
import {
  type MigrateOptions,
  type MigrateResult,
  migrate,
  type SchemaOptions,
  WORKSPACES_CREATED,
  WORKSPACES_ELSEWHERE,
} from '../../schema/migrate.ts'
import { migrateDown } from '../../schema/migrate-down.ts'
import { type UninstallResult, uninstall } from '../../schema/uninstall.ts'
import { UNTIL_LIMIT_SECONDS } from '../../schema/until-limit-range.ts'
import type { Command } from '../command.ts'
import { confirms } from '../confirmation.ts'
import { adoptionOf, adoptionOptions, NAMES_NOTE } from '../options/adoption-options.ts'
import { type DatabaseOptions, databaseOptions } from '../options/database-option.ts'
import { durationAllowedBy } from '../options/duration.ts'
import { type JsonOptions, jsonOption } from '../options/json-option.ts'
import { createLogger, logLevelOption } from '../options/log-options.ts'
import { VariableOption } from '../options/variable-option.ts'
import { count } from '../output/count.ts'
import { UsageError } from '../output/failure.ts'
import type { ExitCode, Terminal } from '../terminal.ts'

interface Options extends DatabaseOptions, JsonOptions, AdoptionOptions {
  down: boolean
  all: boolean
  yes: boolean
  logged?: true
  unlogged?: true
  citus?: true
  untilLimit?: number
  logLevel: string
}

const WARNING =
  'This removes everything of workspace-usage from the database: marks that are not flushed, the last use by ' +
  'source, and the flush queues with their jobs. A table "workspaces" stays if it holds rows or is your own, and so does a table that a view shows; ' +
  "pg-boss's schema stays if anything else uses it. Stop the workers and the services that mark first."

export const migrateCommand: Command<Options> = {
  options: () => [
    ...databaseOptions(),
    ...adoptionOptions(),
    // These options have no variables, because an environment must not make a command destructive.
    new Option('--down', 'take back the newest migration instead').default(false),
    new Option('--all', 'with --down: remove everything of workspace-usage').default(false),
    new Option('--yes', 'with --down --all: do not ask').default(false),
    new Option('--logged', 'let marks survive a crash of the server: their tables become LOGGED').conflicts([
      'down',
    ]),
    new Option('--unlogged', 'the reverse, as in a new database').conflicts(['down', 'logged']),
    new Option(
      '--citus',
      'distribute the tables over the nodes of a Citus cluster; the database is its coordinator',
    ).conflicts(['down', 'logged', 'unlogged']),
    new VariableOption(
      '--until-limit <duration>',
      'how far ahead a workspace can be in use at most, such as 48h',
      'WORKSPACE_USAGE_UNTIL_LIMIT',
    ).argParser(durationAllowedBy(UNTIL_LIMIT_SECONDS)),
    jsonOption(),
    logLevelOption('warn'),
  ],
  notes: NAMES_NOTE,
  run: async (
    terminal,
    { databaseUrl, schema, down, all, yes, logged, unlogged, citus, untilLimit, json, logLevel, ...rest },
  ) => {
    if (all && !down) throw new UsageError('--all needs --down')
    if (yes && !all) throw new UsageError('--yes needs --down --all')
    const options = {
      connectionString: databaseUrl,
      ...(schema !== undefined && { schema }),
      logger: createLogger(logLevel, terminal.stderr),
    }
    if (all) return await removeAll(terminal, options, { yes, json })
    if (down) return await takeBack(terminal, options, json)
    return await upgrade(
      terminal,
      {
        ...options,
        ...adoptionOf(rest),
        ...((logged || unlogged) && { logged: logged === true }),
        ...(citus && { citus }),
        ...(untilLimit !== undefined && { untilLimitSeconds: untilLimit }),
      },
      json,
    )
  },
}

async function upgrade(terminal: Terminal, options: MigrateOptions, json: boolean): Promise<ExitCode> {
  const result = await migrate(options)
  if (json) {
    terminal.printJson(result)
    return 0
  }
  const { schema, applied, restored, workspacesCreated, workspaces, adoption } = result
  const { queue, logged, citus, warnings } = result
  terminal.print(`schema ${schema}`)
  for (const name of restored) terminal.print(`found ${name}, which was not recorded here`)
  for (const name of applied) terminal.print(`migrated ${name}`)
  if (applied.length === 0) terminal.print('the schema is up to date')
  if (adoption !== null) terminal.print(ADOPTIONS[adoption])
  if (workspaces.view) terminal.print(describeTable(workspaces))
  if (workspacesCreated) terminal.print(`${WORKSPACES_CREATED}\n${WORKSPACES_ELSEWHERE}`)
  terminal.print(`queue ${queue.queue}, schedule "${queue.cron}", pg-boss schema ${queue.schemaVersion}`)
  if (citus !== null) {
    terminal.print(`distributed with Citus: ${count(citus.shards, 'shard')} on ${count(citus.nodes, 'node')}`)
  }
  if (options.citus) terminal.print(GRANT_AGAIN)
  if (options.logged !== undefined) {
    terminal.print(
      logged
        ? 'marks survive a crash: their tables are LOGGED'
        : 'marks are lost by a crash: their tables are UNLOGGED',
    )
  }
  if (options.untilLimitSeconds !== undefined) {
    terminal.print(`a workspace can be in use until ${formatDuration(options.untilLimitSeconds)} ahead`)
  }
  for (const { object, consequence, remedy } of warnings) {
    terminal.print(`warning: ${object}: ${consequence} ${remedy}`)
  }
  return 0
}

const GRANT_AGAIN = 'If roles were granted their duties before, repeat it: workspace-usage grant'

/** What became of the view. */
const ADOPTIONS: Record<NonNullable<MigrateResult['adoption']>, string> = {
  created: 'created the view "workspaces"',
  changed: 'changed the view "workspaces"',
  replaced:
    'dropped the empty table "workspaces" that workspace-usage had created, and put a view in its place',
  kept: 'the view "workspaces" is up to date',
}

async function takeBack(terminal: Terminal, options: SchemaOptions, json: boolean): Promise<ExitCode> {
  const reverted = await migrateDown(options)
  if (json) terminal.printJson({ reverted })
  else terminal.print(reverted === null ? 'nothing to take back' : `took back ${reverted}`)
  return 0
}

async function removeAll(
  terminal: Terminal,
  options: SchemaOptions,
  { yes, json }: Pick<Options, 'yes' | 'json'>,
): Promise<ExitCode> {
  if (!yes && !(await confirms(terminal, WARNING, '--yes'))) {
    terminal.tell('error: not confirmed; nothing was changed')
    return 1
  }
  const result = await uninstall(options)
  if (json) terminal.printJson(result)
  else terminal.print(describe(result))
  return 0
}

function describe({ dropped, left }: UninstallResult): string {
  const lines = [
    ...dropped.map(object => `dropped ${object}`),
    ...left.map(({ object, reason }) => `left ${object}: ${reason}`),
  ]
  return dropped.length === 0 ? ['nothing to remove', ...lines].join('\n') : lines.join('\n')
}
