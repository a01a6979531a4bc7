/** A kind of warning, and the query that finds its members. */
interface Check {
  code: string
  /** Returns one row for each member, with the column `object`. `$1` is the table, and `$2` the column of the last use. */
  find: string
  /** In them, `last_used_at` stands for the column of the host. */
  consequence: string
  remedy: string
}

/*
 * `tree` is the table with its partitions and children. `changed` are the columns that change in a flush: last_used_at,
 * and generated columns that are computed from it.
 */
const TREE = `
  WITH RECURSIVE tree (oid) AS (
    SELECT $1::oid
    UNION SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
  ), used AS (
    SELECT a.attrelid AS relation, a.attnum FROM tree JOIN pg_catalog.pg_attribute a ON a.attrelid = tree.oid
    WHERE a.attname = $2::name AND NOT a.attisdropped
  ), changed AS (
    SELECT relation, attnum FROM used
    UNION
    SELECT d.adrelid, d.adnum
    FROM used u
    JOIN pg_catalog.pg_attrdef d ON d.adrelid = u.relation
    JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum AND a.attgenerated <> ''
    JOIN pg_catalog.pg_depend dep ON dep.refclassid = 'pg_catalog.pg_class'::regclass
      AND dep.refobjid = u.relation AND dep.refobjsubid = u.attnum
      AND (
        (dep.classid = 'pg_catalog.pg_attrdef'::regclass AND dep.objid = d.oid)
        OR (dep.classid = 'pg_catalog.pg_class'::regclass AND dep.objid = d.adrelid AND dep.objsubid = d.adnum)
      )
  )`

// Columns of a key or INCLUDE are in indkey. Those of an expression or a predicate are in pg_depend. An index of a
// partition that belongs to an index of the parent is left out. A flush needs the strongest lock of a row if a column
// of a unique index changes that has neither an expression nor a predicate.
const INDEXES = `${TREE}, found AS (
    SELECT DISTINCT 'index ' || i.indexrelid::regclass AS object, am.amname,
      i.indisunique AND i.indexprs IS NULL AND i.indpred IS NULL
        AND c.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]) AS is_key
    FROM changed c
    JOIN pg_catalog.pg_index i ON i.indrelid = c.relation
    JOIN pg_catalog.pg_class r ON r.oid = i.indexrelid
    JOIN pg_catalog.pg_am am ON am.oid = r.relam
    WHERE NOT r.relispartition AND (
      c.attnum = ANY (i.indkey::int2[])
      OR EXISTS (
        SELECT FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = i.indexrelid
          AND d.refclassid = 'pg_catalog.pg_class'::regclass AND d.refobjid = c.relation AND d.refobjsubid = c.attnum
      )
    )
  ), index_found AS (SELECT object, min(amname) AS amname, bool_or(is_key) AS is_key FROM found GROUP BY object)`

// Type 1 is FOR EACH ROW, 16 is UPDATE. A trigger of the parent is cloned to each partition.
const triggers = (forEachRow: 0 | 1) => `${TREE}
  SELECT 'trigger ' || pg_catalog.quote_ident(t.tgname) || ' on ' || t.tgrelid::regclass AS object
  FROM tree JOIN pg_catalog.pg_trigger t ON t.tgrelid = tree.oid
  WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND t.tgenabled IN ('O', 'A')
    AND t.tgtype & 16 = 16 AND t.tgtype & 1 = ${forEachRow}
    -- The statement of a flush names the parent, so a statement trigger of a child does not fire.
    AND (${forEachRow} = 1 OR t.tgrelid = $1::oid)
    AND (
      pg_catalog.cardinality(t.tgattr::int2[]) = 0
      OR EXISTS (SELECT FROM changed c WHERE c.relation = t.tgrelid AND c.attnum = ANY (t.tgattr::int2[]))
    )
  ORDER BY 1`

// Constraints of type 'n' are NOT NULL, and can be NOT VALID since PostgreSQL 18. Only there can one be NOT ENFORCED.
const constraints = (which: string) => `${TREE}
  SELECT DISTINCT 'constraint ' || pg_catalog.quote_ident(n.conname) || ' on ' || n.conrelid::regclass AS object
  FROM tree JOIN pg_catalog.pg_constraint n ON n.conrelid = tree.oid
  WHERE coalesce(pg_catalog.to_jsonb(n) ->> 'conenforced', 'true') = 'true' AND n.conparentid = 0 AND (${which})
  ORDER BY 1`

const concernsLastUsedAt = (relation: string, columns: string) =>
  `EXISTS (SELECT FROM changed c WHERE c.relation = ${relation} AND c.attnum = ANY (${columns}))`

/** What is looked for. A warning of one kind does not repeat what another says. */
export const CHECKS: readonly Check[] = [
  {
    code: 'unique-index-on-last-used-at',
    find: `${INDEXES} SELECT object FROM index_found WHERE is_key ORDER BY object`,
    consequence:
      'A flush needs the strongest lock of a row. While a transaction of yours has inserted a row that refers to the ' +
      'workspace, its marks stay pending, and such an INSERT waits for a flush. No flush is a HOT update.',
    remedy: 'Drop the index, or leave last_used_at out of it.',
  },
  {
    code: 'index-on-last-used-at',
    // Since PostgreSQL 16, a change of a column of a BRIN index leaves the update HOT.
    find: `${INDEXES} SELECT object FROM index_found
      WHERE NOT is_key
        AND (amname <> 'brin' OR pg_catalog.current_setting('server_version_num')::int < 160000)
      ORDER BY object`,
    consequence:
      'No flush is a HOT update: each flushed workspace gets a new entry in every index of the table. That costs time ' +
      'and WAL, and the indexes grow.',
    remedy: 'Drop the index, or leave last_used_at out of its columns, expressions and WHERE.',
  },
  {
    code: 'row-trigger',
    find: triggers(1),
    consequence:
      'It runs for each workspace that a flush updates, with the rights of the worker. If it raises an error or cancels ' +
      'the update, the flush sets the marks of that workspace aside. If it changes an indexed column, no flush is a HOT ' +
      'update.',
    remedy: 'If it need not run then, restrict it: UPDATE OF the columns that it is about, or WHEN.',
  },
  {
    code: 'statement-trigger',
    find: triggers(0),
    consequence:
      'It runs once for each flush, with the rights of the worker, even if nothing changes. If it raises an error, the ' +
      'flush fails.',
    remedy: 'If it need not run then, restrict it: UPDATE OF the columns that it is about.',
  },
  {
    code: 'constraint-not-valid',
    find: constraints(`n.contype IN ('c', 'n') AND NOT n.convalidated`),
    consequence:
      'A workspace whose row violates it can not be flushed. Its marks are set aside until the row is mended.',
    remedy: 'Mend the rows that violate it, then run ALTER TABLE … VALIDATE CONSTRAINT.',
  },
  {
    code: 'check-on-last-used-at',
    find: constraints(
      `n.contype = 'c' AND n.convalidated AND ${concernsLastUsedAt('n.conrelid', 'n.conkey')}`,
    ),
    consequence:
      'A workspace whose new last_used_at violates it can not be flushed. Its marks are set aside. A new value is the ' +
      'end of a period: later than the use, and in the past.',
    remedy: 'Make sure that each past time satisfies it, or drop it.',
  },
  {
    code: 'foreign-key-on-last-used-at',
    find: `${constraints(`n.contype = 'f' AND ${concernsLastUsedAt('n.conrelid', 'n.conkey')}`).replace(/\n {2}ORDER BY 1$/, '')}
      UNION ALL
      SELECT 'constraint ' || pg_catalog.quote_ident(n.conname) || ' on ' || n.conrelid::regclass
      FROM pg_catalog.pg_constraint n
      WHERE n.contype = 'f' AND n.conparentid = 0 AND ${concernsLastUsedAt('n.confrelid', 'n.confkey')}
      ORDER BY 1`,
    consequence:
      'Each flush checks it for each workspace. A workspace whose new last_used_at violates it can not be flushed, and ' +
      'its marks are set aside.',
    remedy: 'Drop it, or leave last_used_at out of it.',
  },
  {
    code: 'children',
    find: `SELECT 'table ' || i.inhrelid::regclass AS object
      FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent
      WHERE i.inhparent = $1::oid AND c.relkind = 'r' ORDER BY 1`,
    consequence:
      'A workspace that is stored in this child can not be flushed, because no foreign key can refer to it.',
    remedy: 'Keep workspaces in the table itself, or in a partitioned table.',
  },
  {
    code: 'replica-identity-full',
    find: `${TREE}
      SELECT 'table ' || c.oid::regclass AS object
      FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid
      WHERE c.relkind = 'r' AND c.relreplident = 'f' AND EXISTS (
        SELECT FROM tree t
        JOIN pg_catalog.pg_class r ON r.oid = t.oid
        JOIN pg_catalog.pg_namespace s ON s.oid = r.relnamespace
        JOIN pg_catalog.pg_publication_tables p ON p.schemaname = s.nspname AND p.tablename = r.relname
        JOIN pg_catalog.pg_publication USING (pubname)
        WHERE pubupdate
      )
      ORDER BY 1`,
    consequence: 'Each flush writes the whole old row of each workspace to WAL, beside the new one.',
    remedy: 'If the table has a primary key, run ALTER TABLE … REPLICA IDENTITY DEFAULT.',
  },
  {
    code: 'subscription',
    find: `${TREE}
      SELECT 'table ' || tree.oid::regclass AS object
      FROM tree WHERE EXISTS (SELECT FROM pg_catalog.pg_subscription_rel s WHERE s.srrelid = tree.oid) ORDER BY 1`,
    consequence:
      'Logical replication writes the table as well. A change of the publisher overwrites what a flush has written.',
    remedy: 'Mark and flush in the database of the publisher.',
  },
]
