/**
 * SQL of the source of a mark as the other tables have it, in a list of columns. The collation of `pending_usage` would be
 * that of each comparison with those tables, and not fit their indexes.
 */
export const SOURCE_OF_MARK = 'source::text COLLATE pg_catalog."default" AS source'
