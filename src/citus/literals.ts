import {
  type KyselyPlugin,
  type OperationNode,
  OperationNodeTransformer,
  type RawBuilder,
  RawNode,
  SchemableIdentifierNode,
  type TableNode,
  type ValueNode,
} from 'kysely'
import { COMPILER } from '../database/compile.ts'
import type { Statement } from '../database/connection.ts'
import { quoteLiteral } from '../database/quote.ts'
import type { Shard } from './shards.ts'

/**
 * Compiles a statement for one shard: each table has its name there, and each value is a literal, because a procedure
 * can't pass on parameters that it does not know.
 */
export function compileFor<Row>(shard: Shard, statement: RawBuilder<Row>): Statement<Row> {
  return statement.compile(COMPILER.withPlugin(new OnShard(shard)))
}

class OnShard extends OperationNodeTransformer implements KyselyPlugin {
  readonly #tables: Shard['tables']

  constructor({ tables }: Shard) {
    super()
    this.#tables = tables
  }

  transformQuery({ node }: Parameters<KyselyPlugin['transformQuery']>[0]) {
    return this.transformNode(node)
  }

  async transformResult({ result }: Parameters<KyselyPlugin['transformResult']>[0]) {
    return result
  }

  protected override transformTable(node: TableNode): TableNode {
    const { schema, name } = this.#tables[node.table.identifier.name]!
    return { ...node, table: SchemableIdentifierNode.createWithSchema(schema, name) }
  }

  protected override transformValue(node: ValueNode): ValueNode {
    if (node.immediate) return node
    return RawNode.createWithSql(literalOf(node.value)) as OperationNode as ValueNode
  }
}

function literalOf(value: unknown): string {
  if (value === null || value === undefined) return 'NULL'
  if (Array.isArray(value)) return quoteLiteral(`{${value.map(elementOf).join(',')}}`)
  return quoteLiteral(String(value))
}

/** An element of an array of ids or texts, as PostgreSQL reads it. */
function elementOf(value: unknown): string {
  if (value === null) return 'NULL'
  return `"${String(value).replaceAll('\\', '\\\\').replaceAll('"', '\\"')}"`
}
