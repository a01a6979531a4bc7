import { shellWord } from '../shell-word.ts'
import { quote, WorkspaceUsageError } from './base.ts'

/** The database lacks something that `migrate` creates, or holds an older version of it. */
export class NotMigratedError extends WorkspaceUsageError {
  /** The object that is missing or too old. */
  readonly missing: string
  /** The schema that was named. Null if `search_path` was to lead to the tables. */
  readonly schema: string | null

  constructor(
    missing: string,
    { schema = null, ...options }: ErrorOptions & { schema?: string | null } = {},
  ) {
    const command = `workspace-usage migrate${schemaFlag(schema)}`
    super(`this database is not migrated: ${missing}. Run \`${command}\` against it first.`, options)
    this.missing = missing
    this.schema = schema
  }
}

function schemaFlag(schema: string | null): string {
  return schema === null ? '' : ` --schema ${shellWord(schema)}`
}

/** The server is a standby, or the session is read-only. An UNLOGGED table can be used on the primary only. */
export class StandbyError extends WorkspaceUsageError {
  constructor(options?: ErrorOptions) {
    super(
      'this server is a standby or in recovery, or the session is read-only: "pending_usage", an UNLOGGED table, ' +
        "can't be used there. Connect to the primary: use its own host name, or a name that follows the primary " +
        '(the node-postgres driver ignores target_session_attrs). If this is the primary, look at ' +
        'default_transaction_read_only of the role and the database.',
      options,
    )
  }
}

/**
 * Row-level security of a table applies to a role that must see every row. It hides rows without an error, so a hidden
 * workspace would look like one that does not exist. Nothing was changed, and marks stay pending.
 */
export class RowSecurityError extends WorkspaceUsageError {
  /** The table, without its schema. Null if PostgreSQL itself refused, because it tells the name only in its text. */
  readonly table: string | null
  /** The role that the policies apply to. Null if only PostgreSQL's text tells it. */
  readonly role: string | null

  /** @param table Without it, the text is that of the cause. */
  constructor(table: string | null, role: string | null, options?: ErrorOptions) {
    const who = role === null ? 'a role' : `role ${quote(role)}`
    const what =
      table !== null || !(options?.cause instanceof Error)
        ? `row-level security of table ${quote(table ?? 'unknown')} applies to ${who}, and may hide rows from it`
        : `row-level security would hide rows: ${options.cause.message}`
    super(`${what}. ${ROW_SECURITY_REMEDY}`, options)
    this.table = table
    this.role = role
  }
}

const ROW_SECURITY_REMEDY =
  'Workers must see all rows, and so must the owner of the views that readers use. Let the role inherit from the ' +
  'owner of the table (and do not FORCE row security on it), or, as a superuser, ALTER ROLE … BYPASSRLS.'

/**
 * The database did not answer a statement in time. The connection is given up. Whether the statement took effect is
 * not known. Marks can be sent again, because they are idempotent.
 */
export class NoAnswerError extends WorkspaceUsageError {
  /** How long the answer was waited for, in milliseconds. */
  readonly timeoutMs: number

  constructor(timeoutMs: number, options?: ErrorOptions) {
    super(
      `the database did not answer within ${timeoutMs} ms. The connection is given up. ` +
        'Look at the network, and at what the server is waiting for (pg_stat_activity).',
      options,
    )
    this.timeoutMs = timeoutMs
  }
}

/** What a role does, as in `workspace-usage grant --worker`. */
export type Duty = 'marker' | 'worker' | 'reader' | 'reaper' | 'holder'

/** PostgreSQL refused a statement because the role lacks a privilege (SQLSTATE 42501). Its own error is the cause. */
export class InsufficientPrivilegeError extends WorkspaceUsageError {
  /** The role that lacks the privilege, as the server names it. */
  readonly role: string
  /** What the role was doing. */
  readonly duty: Duty
  /** The shell command that gives the role what the duty needs. */
  readonly command: string
  /** The place in a function or trigger, in PostgreSQL's words. Null if PostgreSQL refused the statement itself. */
  readonly where: string | null

  /** @param options `schema` is the one that was named. */
  constructor(
    role: string,
    duty: Duty,
    refusal: string,
    where: string | null,
    { schema = null, ...options }: ErrorOptions & { schema?: string | null } = {},
  ) {
    const command = `workspace-usage grant --${duty} ${shellWord(role)}${schemaFlag(schema)}`
    const remedy =
      where === null
        ? `Run: ${command}`
        : `It was refused in: ${where.replaceAll(/\s+/g, ' ')}. Run: ${command}. If that is a trigger or function of yours, ` +
          'also grant the role what it does, or make the function SECURITY DEFINER.'
    super(`role ${quote(role)} lacks a privilege: ${refusal}. ${remedy}`, options)
    this.role = role
    this.duty = duty
    this.command = command
    this.where = where
  }
}

/** A node of a Citus cluster can't be reached, or has failed at a flush. The marks of its shards stay there. */
export class NodeUnreachableError extends WorkspaceUsageError {
  /** The node as the coordinator knows it, such as `10.0.0.7:5432`. */
  readonly node: string

  /** @param reason What the coordinator says. */
  constructor(node: string, reason: string, options?: ErrorOptions) {
    super(
      `the node ${quote(node)} of the Citus cluster did not run the flush: ${reason.trim()}. Its marks stay, and the ` +
        'next flush tries again. Look whether the node is up, and whether the coordinator may connect to it as this role.',
      options,
    )
    this.node = node
  }
}

/** The tables are distributed, and this node is not the coordinator, which has the others. Markers may connect to any node. */
export class NotCoordinatorError extends WorkspaceUsageError {
  constructor(options?: ErrorOptions) {
    super(
      'the tables are distributed with Citus, and this node is not the coordinator: only there are flushes, workers, ' +
        'migrations and the state of all. Connect to the coordinator. (Who only marks may connect to any node.)',
      options,
    )
  }
}
