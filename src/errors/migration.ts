import { WorkspaceUsageError } from './base.ts'

/** The connection that held the lock of migrations broke. The steps that had ended stay. No further step was begun. */
export class MigrationLockLostError extends WorkspaceUsageError {
  constructor(cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    super(
      `the connection that held the lock of migrations broke: ${reason}. Somebody else may be migrating by now, so no ` +
        'further step was begun. Run the command again: it goes on where this one ended.',
      { cause },
    )
  }
}

/** PostgreSQL says that an object exists already which a migration creates. Nothing was changed. */
export class ObjectExistsError extends WorkspaceUsageError {
  /** The schema of the migrations. */
  readonly schema: string
  /** What exists, in PostgreSQL's words. */
  readonly reason: string

  constructor(schema: string, reason: string, options?: ErrorOptions) {
    super(
      `a migration can't create what exists already in the schema "${schema}": ${reason}. No migration is recorded that ` +
        'created it. Nothing was changed. If it is yours, rename it. If it is of a restored dump, restore the table ' +
        '"workspace_usage_migration" with its comment as well, or drop what was restored.',
      options,
    )
    this.schema = schema
    this.reason = reason
  }
}

/** pg-boss's schema tells no version, and is not what this pg-boss creates. Nothing was changed. */
export class QueueSchemaUnknownError extends WorkspaceUsageError {
  /** The version that the pg-boss of this process works with. */
  readonly expected: number

  constructor(expected: number) {
    super(
      `the pg-boss schema of this database tells no version, as if it was restored without rows, and it is not that of ` +
        `version ${expected}. Nothing was changed. If it holds no jobs, drop it (DROP SCHEMA pgboss CASCADE) and ` +
        'run `workspace-usage migrate` again, which creates it.',
    )
    this.expected = expected
  }
}

/** The tables can't be distributed with Citus. What was migrated before stays, and nothing was distributed. */
export class DistributionRefusedError extends WorkspaceUsageError {
  /** What is in the way. */
  readonly reason: string

  constructor(reason: string, remedy: string, options?: ErrorOptions) {
    super(
      `the tables can't be distributed with Citus: ${reason}. Nothing was distributed. ${remedy}`,
      options,
    )
    this.reason = reason
  }
}
