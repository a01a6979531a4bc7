import type { Queryable } from '../../src/database/connection.ts'

/** What a statement did, as EXPLAIN ANALYZE tells it. */
export interface Execution {
  nodes: PlanNode[]
  /** The number of pages of 8 kB that were read, from memory or disk. */
  pages: number
  /** The plan as text, for messages. */
  text: string
}

/** A node of the plan. */
export interface PlanNode {
  type: string
  /** The table that it reads; undefined if it reads none. */
  relation: string | undefined
  /** How often it ran. */
  loops: number
}

interface JsonNode {
  'Node Type': string
  'Relation Name'?: string
  'Actual Loops': number
  'Actual Rows': number
  'Shared Hit Blocks': number
  'Shared Read Blocks': number
  'Index Cond'?: string
  Plans?: JsonNode[]
}

/** Runs a statement and returns how it ran. Planning is not counted. */
export async function execution(db: Queryable, statement: string): Promise<Execution> {
  const { rows } = await db.query(
    `EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, FORMAT JSON) ${statement}`,
  )
  const [{ Plan: root }] = (rows[0] as { 'QUERY PLAN': [{ Plan: JsonNode }] })['QUERY PLAN']
  const nodes: PlanNode[] = []
  const lines: string[] = []
  const visit = (node: JsonNode, depth: number) => {
    const { 'Node Type': type, 'Relation Name': relation, 'Actual Loops': loops } = node
    nodes.push({ type, relation, loops })
    const read = relation === undefined ? '' : ` on ${relation} ${node['Index Cond'] ?? ''}`
    lines.push(`${'  '.repeat(depth)}${type}${read} (${loops} loops of ${node['Actual Rows']} rows)`)
    for (const child of node.Plans ?? []) visit(child, depth + 1)
  }
  visit(root, 0)
  return { nodes, pages: root['Shared Hit Blocks'] + root['Shared Read Blocks'], text: lines.join('\n') }
}
