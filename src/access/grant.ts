import { connectWithin } from '../database/deadline.ts'
import { A_POOL, type ConnectionPool, type PooledClient } from '../database/pool.ts'
import { beginIn, placeOf } from '../database/schema-path.ts'
import { sqlState } from '../database/sql-state.ts'
import { BEGIN } from '../database/within-path.ts'
import { GrantRefusedError } from '../errors.ts'
import { checkOption, checkOptions } from '../options.ts'
import { DUTY_RULES, privilegeStatements, type RoleDuties } from './duties.ts'

/** PostgreSQL only warns with these codes when it grants or revokes less than it was told to. */
const SKIPPED = ['01006', '01007']

const CONNECT_TIMEOUT_MS = 10_000

/**
 * Gives each role what its duties need, and no more. If one statement fails, nothing is granted. It can be repeated.
 *
 * @param pool Its role owns the tables, or is a superuser.
 * @returns The statements that ran, in order.
 * @throws {UnknownOptionError} If there is no such duty; nothing is sent then.
 * @throws {InvalidOptionError} If `pool` is no pool, or a duty is no list of role names; nothing is sent then.
 * @throws {UnknownRoleError} If a role does not exist.
 * @throws {NotMigratedError} If the database is not migrated.
 * @throws {SearchPathError} If the tables are in a schema that `search_path` does not find.
 * @throws {RowSecurityError} If row security would hide rows from a worker or a reaper, or from the views. Give the
 *   role BYPASSRLS first, because the grant alone would be of no use.
 * @throws {GrantRefusedError} If the pool's role may not do one of the statements.
 */
export async function grantPrivileges(pool: ConnectionPool, duties: RoleDuties): Promise<string[]> {
  return await apply(pool, 'grant', duties)
}

/**
 * Takes back what {@link grantPrivileges} gives, even if somebody else granted the same. USAGE of the schemas that hold
 * this package's tables stays. If one statement fails, nothing is revoked. It can be repeated. Parameters, result and
 * errors are those of {@link grantPrivileges}.
 */
export async function revokePrivileges(pool: ConnectionPool, duties: RoleDuties): Promise<string[]> {
  return await apply(pool, 'revoke', duties)
}

async function apply(
  pool: ConnectionPool,
  action: 'grant' | 'revoke',
  duties: RoleDuties,
): Promise<string[]> {
  checkOption('pool', pool, A_POOL)
  checkOptions(duties, DUTY_RULES)
  const client = (await connectWithin(pool, CONNECT_TIMEOUT_MS)) as NoticingClient
  const skipped: Notice[] = []
  const onNotice = (notice: Notice) => {
    if (SKIPPED.includes(notice.code ?? '')) skipped.push(notice)
  }
  client.on('notice', onNotice)
  let failure: Error | undefined
  try {
    await client.query(beginIn(BEGIN, placeOf(pool).schema))
    await client.query("SET LOCAL client_min_messages = 'warning'")
    const statements = await privilegeStatements(client, action, duties)
    for (const statement of statements) {
      try {
        await client.query(statement)
      } catch (error) {
        if (sqlState(error) === '42501') throw new GrantRefusedError(statement, { cause: error })
        throw error
      }
      if (skipped.length > 0) throw new GrantRefusedError(statement, { cause: skipped[0] })
    }
    await client.query('COMMIT')
    return statements
  } catch (error) {
    failure = error as Error
    throw error
  } finally {
    client.removeListener('notice', onNotice)
    // After an error the connection is dropped. That rolls back.
    client.release(failure)
  }
}

/** A warning as a `pg` client reports it. It is not an `Error`. */
interface Notice {
  code?: string | undefined
}

type NoticingClient = PooledClient & {
  on(event: 'notice', listener: (notice: Notice) => void): unknown
  removeListener(event: 'notice', listener: (notice: Notice) => void): unknown
}
