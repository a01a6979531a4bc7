import pg from 'pg'

/*
 * How values of a host's pool are read. A host may have replaced the type parsers of its driver, such as numbers by
 * BigInt or JSON by text, and pg-boss could not work with them. So each statement of a worker brings its own.
 */

type Parser = (text: string) => unknown

/** By the OID of the type. PostgreSQL never changes the OID of a built-in type. */
const PARSERS: Record<number, Parser> = {
  16: text => text === 't', // bool
  21: Number, // int2
  23: Number, // int4
  26: Number, // oid
  114: JSON.parse, // json
  700: Number, // float4
  701: Number, // float8
  1009: textArray,
  1184: instant, // timestamptz
  2951: text => text.slice(1, -1).split(',').filter(Boolean), // uuid[]
  3802: JSON.parse, // jsonb
}

/** The part of a query of `pg` that says how values are read. Other types are read as text. */
export const PLAIN_TYPES = {
  getTypeParser(oid: number): Parser {
    return PARSERS[oid] ?? (text => text)
  },
}

/** A `text[]`. The driver types its own OIDs only, and knows this one. */
function textArray(text: string): unknown {
  return pg.types.getTypeParser(1009 as never)(text)
}

/** Null if it is none: `infinity`, or the text of another DateStyle. pg-boss then takes it for absent. */
function instant(text: string): Date | null {
  const date = new Date(text.replace(' ', 'T').replace(/([+-]\d\d)$/, '$1:00'))
  return Number.isNaN(date.getTime()) || !/^\d{4}-/.test(text) ? null : date
}
