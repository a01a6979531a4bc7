import type { Queryable } from '../../src/database/connection.ts'

/**
 * What is in a schema, as statements that create it again: tables with columns, defaults, constraints, persistence and
 * storage parameters, indexes, functions, views and comments. Owners and privileges are left out, and so are the two
 * tables in which Kysely records migrations. It is read from the catalogs, because pg_dump must be as new as the server
 * and is not everywhere.
 *
 * @returns The same text on PostgreSQL 14 to 18, with one exception: before 16, a view of one table alone is printed with
 *   the table's name before each column. '' if the schema is empty.
 */
export async function schemaDump(db: Queryable, schema = 'public'): Promise<string> {
  const { rows } = await db.query(
    `WITH ${RELATION}
     SELECT statement FROM (${PARTS.join(' UNION ALL ')}) statements
     ORDER BY part, name COLLATE "C", detail`,
    [schema],
  )
  // PostgreSQL's own functions name the schema in some definitions and not in others.
  const prefix = new RegExp(`\\b${schema}\\.`, 'g')
  return (rows as { statement: string }[])
    .map(({ statement }) => `${statement.replace(prefix, '').trim()}\n`)
    .join('\n')
}

/** All objects in all schemas of a database, except those of PostgreSQL itself, as PostgreSQL describes them. */
export async function catalogObjects(db: Queryable): Promise<string[]> {
  const { rows } = await db.query(`
    SELECT pg_describe_object(classid, objid, 0) AS object FROM (
      SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relnamespace <> 'pg_toast'::regnamespace
      UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc
      UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type
      UNION ALL SELECT 'pg_namespace'::regclass, oid FROM pg_namespace
    ) objects (classid, objid)
    WHERE objid >= 16384 ORDER BY object`)
  return (rows as { object: string }[]).map(({ object }) => object)
}

const RELATION = `
  relation AS (
    SELECT oid, relname, relkind, relpersistence, reloptions FROM pg_class
    WHERE relnamespace = $1::regnamespace AND relname !~ '^workspace_usage_migration'
  )`

// A NOT NULL is a constraint too since PostgreSQL 18; here it is a property of the column everywhere.
const CONSTRAINT = `format('CONSTRAINT %I %s', c.conname, pg_get_constraintdef(c.oid))`

const PARTS = [
  `SELECT 1 AS part, proname::text AS name, 0 AS detail, pg_get_functiondef(oid) || ';' AS statement
   FROM pg_proc WHERE pronamespace = $1::regnamespace`,

  `SELECT 2, relname, 0, format(E'CREATE %sTABLE %I (\\n%s\\n)%s;',
     CASE relpersistence WHEN 'u' THEN 'UNLOGGED ' END, relname,
     (SELECT string_agg('  ' || line, E',\\n' ORDER BY kind, place, line COLLATE "C") FROM (
       SELECT 1 AS kind, attnum AS place,
         concat_ws(' ', quote_ident(attname), format_type(atttypid, atttypmod),
           'DEFAULT ' || pg_get_expr(adbin, adrelid), CASE WHEN attnotnull THEN 'NOT NULL' END) AS line
       FROM pg_attribute LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
       WHERE attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
       UNION ALL
       SELECT 2, 0, ${CONSTRAINT}
       FROM pg_constraint c WHERE conrelid = relation.oid AND contype NOT IN ('f', 'n')
     ) lines),
     E' WITH (\\n  ' || array_to_string(reloptions, E',\\n  ') || E'\\n)')
   FROM relation WHERE relkind IN ('r', 'p')`,

  `SELECT 3, relname, row_number() OVER (ORDER BY conname),
     format(E'ALTER TABLE %I\\n  ADD %s;', relname, ${CONSTRAINT})
   FROM pg_constraint c JOIN relation ON relation.oid = conrelid WHERE contype = 'f'`,

  `SELECT 4, relname, 0, pg_get_indexdef(oid) || ';'
   FROM relation
   WHERE relkind IN ('i', 'I') AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = relation.oid)`,

  `SELECT 5, relname, 0, format(E'CREATE VIEW %I%s AS\\n%s', relname,
     ' WITH (' || array_to_string(reloptions, ', ') || ')', pg_get_viewdef(oid))
   FROM relation WHERE relkind = 'v'`,

  `SELECT 6, name, detail, format('COMMENT ON %s IS %L;', object, comment) FROM (
     SELECT relname AS name, objsubid AS detail, description AS comment, CASE
       WHEN objsubid > 0 THEN format('COLUMN %I.%I', relname, attname)
       WHEN relkind = 'v' THEN format('VIEW %I', relname)
       WHEN relkind IN ('i', 'I') THEN format('INDEX %I', relname)
       ELSE format('TABLE %I', relname) END AS object
     FROM pg_description JOIN relation ON classoid = 'pg_class'::regclass AND objoid = relation.oid
     LEFT JOIN pg_attribute ON attrelid = relation.oid AND attnum = objsubid AND objsubid > 0
     UNION ALL
     SELECT proname, 0, description, format('FUNCTION %s', pg_proc.oid::regprocedure)
     FROM pg_description JOIN pg_proc ON classoid = 'pg_proc'::regclass AND objoid = pg_proc.oid
     WHERE pronamespace = $1::regnamespace
   ) comments`,

  // Objects of any other kind also count as a difference.
  `SELECT 7, what, 0, '-- and ' || what FROM (
     SELECT pg_describe_object('pg_class'::regclass, oid, 0) AS what
     FROM relation WHERE relkind NOT IN ('r', 'p', 'i', 'I', 'v')
     UNION ALL
     SELECT pg_describe_object('pg_trigger'::regclass, pg_trigger.oid, 0)
     FROM pg_trigger JOIN relation ON relation.oid = tgrelid WHERE NOT tgisinternal
     UNION ALL
     SELECT pg_describe_object('pg_type'::regclass, oid, 0)
     FROM pg_type WHERE typnamespace = $1::regnamespace AND typtype IN ('d', 'e', 'r')
   ) others`,
]
