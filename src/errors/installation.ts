import { quote, WorkspaceUsageError } from './base.ts'

/** The host's own table can't be adopted. Nothing was changed. */
export class WorkspacesTableError extends WorkspaceUsageError {
  /** The column that is wrong. Null if the table itself is wrong. */
  readonly column: string | null
  readonly found: string
  readonly expected: string
  /** The table that was to be adopted, as SQL writes it, such as `app.sandboxes`. Null if it is the one that is named `workspaces`. */
  readonly table: string | null

  constructor(column: string | null, found: string, expected: string, table: string | null = null) {
    const what = `${column === null ? '' : `column ${quote(column)} `}${found}; expected ${expected}.`
    super(
      table === null
        ? `the existing table "workspaces" can't be adopted: ${what} Nothing was created. Change the table, or migrate ` +
            'in a schema of its own (set search_path in the connection string).'
        : `the table ${table} can't be adopted: ${what} Nothing was changed. Change that, and repeat the command.`,
    )
    this.column = column
    this.found = found
    this.expected = expected
    this.table = table
  }
}

/** The tables of this package are in a schema that `search_path` does not find. Nothing was changed. */
export class SearchPathError extends WorkspaceUsageError {
  /** The table that was looked for. */
  readonly object: string
  /** The schemas that hold it. */
  readonly schemas: readonly string[]
  /** The `search_path` of the session. */
  readonly searchPath: string

  constructor(object: string, schemas: readonly string[], searchPath: string) {
    super(
      `no schema of search_path (${searchPath === '' ? 'empty' : searchPath}) has the table ${quote(object)}; found in ` +
        `the schema ${schemas.map(quote).join(' and ')}. Nothing was changed. Name the schema (--schema, or inSchema() ` +
        'in a program), or set search_path in the connection string or for the role (ALTER ROLE … SET search_path). ' +
        'Let the role use the schema (USAGE).',
    )
    this.object = object
    this.schemas = schemas
    this.searchPath = searchPath
  }
}

/** The flush queue exists with a policy that would break a promise. pg-boss can't change the policy of a queue. */
export class QueuePolicyError extends WorkspaceUsageError {
  readonly queue: string
  readonly policy: string
  readonly expected: string

  constructor(queue: string, policy: string, expected: string) {
    super(
      `the pg-boss queue "${queue}" has the policy "${policy}"; expected "${expected}". pg-boss can't change the ` +
        `policy of a queue: stop its workers, delete the queue (pg-boss: deleteQueue('${queue}'); pending marks ` +
        'stay where they are), then run `workspace-usage migrate`.',
    )
    this.queue = queue
    this.policy = policy
    this.expected = expected
  }
}

/** pg-boss's schema is newer than the pg-boss of this process, or too old for it. The schema was not changed. */
export class QueueSchemaError extends WorkspaceUsageError {
  /** The version of the schema that the database has. */
  readonly version: number
  /** The version that the pg-boss of this process works with. */
  readonly expected: number

  constructor(version: number, expected: number) {
    const remedy =
      version > expected
        ? 'A newer pg-boss has upgraded it. Upgrade workspace-usage here to a release whose pg-boss works with that version.'
        : "This package's pg-boss can't upgrade it in one step. Upgrade it with a pg-boss in between first, such as 11.1.1."
    super(`the pg-boss schema of this database has version ${version}; expected ${expected}. ${remedy}`)
    this.version = version
    this.expected = expected
  }
}

/** Some roles do not exist. Nothing was granted or revoked. */
export class UnknownRoleError extends WorkspaceUsageError {
  readonly roles: readonly string[]

  constructor(roles: readonly string[]) {
    const names = roles.map(quote).join(', ')
    super(
      `no such role: ${names}. Allowed: names of roles of this server, spelled as in pg_roles, "public" excluded. ` +
        'Nothing was changed. Create the role first (CREATE ROLE … LOGIN), then repeat the command.',
    )
    this.roles = roles
  }
}

/** PostgreSQL refused a GRANT or REVOKE, or skipped it with a warning. Nothing was granted or revoked. */
export class GrantRefusedError extends WorkspaceUsageError {
  readonly statement: string

  constructor(statement: string, options?: ErrorOptions) {
    super(
      `this role may not: ${statement}. Allowed: the owner of what it names, and superusers. Nothing was changed. ` +
        'Connect as the role that ran `workspace-usage migrate` (for "workspaces", as its owner).',
      options,
    )
    this.statement = statement
  }
}

/** PostgreSQL refused to change or drop an object of this package. Nothing was changed. */
export class SchemaChangeRefusedError extends WorkspaceUsageError {
  /** Why, in PostgreSQL's words. */
  readonly reason: string

  constructor(reason: string, remedy: string, options?: ErrorOptions) {
    super(`PostgreSQL refused the change: ${reason}. Nothing was changed. ${remedy}`, options)
    this.reason = reason
  }
}
