import { Command, Option } from 'commander'
import { numberAllowedBy } from '../../src/cli/options/parsers.ts'
import { type Allowed, integerWithin } from '../../src/options.ts'
import { PERIOD_SECONDS } from '../../src/schema/period.ts'
import { withoutPasswords } from '../../src/without-passwords.ts'

/** The options of `npm start`. Times are in seconds. */
export interface DemoArguments {
  /** If undefined, the demo starts a PostgreSQL of its own. */
  databaseUrl?: string
  demo: boolean
  dashboardPort: number
  period: number
  flushInterval: number
}

/** Reads the command line. Ends the program with 0 after help, and with 2 on wrong usage. */
export function demoArguments(): DemoArguments {
  // compose and CI pass an unset variable as an empty one.
  if (process.env.DATABASE_URL === '') delete process.env.DATABASE_URL
  const database = new Option(
    '-d, --database-url <url>',
    'your database; default: a new one, gone afterwards',
  )
  return new Command('npm start --')
    .description('All of workspace-usage on live data, until Ctrl-C.')
    .addOption(database.env('DATABASE_URL'))
    .option('--demo', 'make up usage, on your database too', false)
    .addOption(number('--dashboard-port <port>', '0: any free one', integerWithin(0, 65_535), 0))
    .addOption(number('--period <seconds>', 'of a new database', PERIOD_SECONDS, 5).conflicts('databaseUrl'))
    .addOption(number('--flush-interval <seconds>', 'between flushes', integerWithin(1, 59, 'seconds'), 5))
    .showHelpAfterError('(npm start -- --help tells what is allowed)')
    .configureOutput({ writeErr: text => process.stderr.write(withoutPasswords(text)) })
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : 2))
    .parse()
    .opts()
}

function number(flags: string, description: string, allowed: Allowed, otherwise: number): Option {
  return new Option(flags, description).default(otherwise).argParser(numberAllowedBy(allowed))
}
