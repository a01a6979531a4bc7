import pg from 'pg'

/** The statements of a migration in this process, counted over all its connections. */
export interface CountedStatements {
  count: number
  /** Lets statements pass uncounted again. */
  stop(): void
}

interface MigrationClient {
  connectionParameters: { application_name?: string }
}

/**
 * Counts the statements of migrations in this process, and calls back before each one is sent.
 *
 * @param before Is told the number of the statement, from 1, and the connections that the migration has opened so far.
 */
export function countMigrationStatements(
  before: (statement: number, clients: Set<pg.Client>) => void = () => {},
): CountedStatements {
  const original = pg.Client.prototype.query
  const clients = new Set<pg.Client>()
  const counted: CountedStatements = {
    count: 0,
    stop: () => {
      pg.Client.prototype.query = original
    },
  }
  pg.Client.prototype.query = function (this: pg.Client, ...args: unknown[]) {
    const { connectionParameters } = this as unknown as MigrationClient
    if (connectionParameters.application_name === 'workspace-usage migrate') {
      clients.add(this)
      before(++counted.count, clients)
    }
    return (original as (...args: unknown[]) => unknown).apply(this, args)
  } as typeof original
  return counted
}
