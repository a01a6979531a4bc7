import { type RawBuilder, sql } from 'kysely'
import { COMPILE, executeSql } from '../database/compile.ts'
import type { Connection, Statement } from '../database/connection.ts'
import { NodeUnreachableError } from '../errors.ts'
import { compileFor } from './literals.ts'
import { addressOf, type Node, type Shard } from './shards.ts'

/** What the procedure tells of a statement. */
type Answer = { rows: unknown[] } | { state: string; message: string; within: boolean }

/** A statement of a shard that waits to be sent. */
interface Waiting {
  node: Node
  statement: string
  answered(answer: Answer): void
  failed(error: unknown): void
}

/**
 * Runs something on many shards at once. Each one runs statement after statement, as on a single server. When all of
 * them wait for an answer, their statements are sent together: one call for each node, and all nodes at once.
 *
 * Each statement is a transaction of its own, on its node.
 */
export class ShardCalls {
  readonly #coordinator: Connection
  #waiting: Waiting[] = []
  #running = 0

  constructor(coordinator: Connection) {
    this.#coordinator = coordinator
  }

  /** Runs something on each of the shards. What fails on one does not end the others. */
  async onEach<Result>(
    shards: readonly Shard[],
    run: (connection: Connection, index: number) => Promise<Result>,
  ): Promise<PromiseSettledResult<Result>[]> {
    this.#running += shards.length
    return await Promise.allSettled(
      shards.map(async (shard, index) => {
        try {
          return await run(this.#connectionTo(shard), index)
        } finally {
          this.#running -= 1
          this.#sendIfAllWait()
        }
      }),
    )
  }

  #connectionTo(shard: Shard): Connection {
    const connection = {
      query: (statement: string) => this.#ask(shard.node, statement),
      [COMPILE]: <Row>(statement: RawBuilder<Row>): Statement<Row> => compileFor(shard, statement),
    }
    return connection
  }

  async #ask(node: Node, statement: string): Promise<{ rows: unknown[] }> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>()
    this.#waiting.push({ node, statement, answered: resolve, failed: reject })
    this.#sendIfAllWait()
    const answer = await promise
    if ('rows' in answer) return answer
    const { state, message, within } = answer
    throw Object.assign(new Error(message), {
      code: state,
      ...(within && { where: 'a function on the shard' }),
    })
  }

  #sendIfAllWait(): void {
    if (this.#waiting.length === 0 || this.#waiting.length < this.#running) return
    const calls = this.#waiting
    this.#waiting = []
    this.#send(calls).catch(error => {
      for (const { failed } of calls) failed(error)
    })
  }

  async #send(calls: readonly Waiting[]): Promise<void> {
    const byNode = Map.groupBy(calls, ({ node }) => addressOf(node))
    const nodes = [...byNode.values()].map(([first]) => first!.node)
    const statements = [...byNode.values()].map(some =>
      JSON.stringify(some.map(({ statement }) => statement)),
    )
    const { rows } = await executeSql(this.#coordinator, callOnNodes(nodes, statements))
    for (const [index, some] of [...byNode.values()].entries()) {
      const { success, result } = JSON.parse(rows[index]!.answer) as { success: boolean; result: string }
      if (success) {
        const answers = JSON.parse(result) as Answer[]
        for (const [place, { answered }] of some.entries()) answered(answers[place]!)
        continue
      }
      const error = new NodeUnreachableError(addressOf(some[0]!.node), result)
      for (const { failed } of some) failed(error)
    }
  }
}

/** @throws The error of the first shard, if all have failed. */
export function throwIfAllFailed(ended: readonly PromiseSettledResult<unknown>[]): void {
  const failed = ended.filter(end => end.status === 'rejected')
  if (failed.length > 0 && failed.length === ended.length) throw failed[0]!.reason
}

/** The rows come in the order of the nodes. */
function callOnNodes(nodes: readonly Node[], statements: readonly string[]): RawBuilder<{ answer: string }> {
  return sql`
    WITH node AS MATERIALIZED (
      SELECT * FROM unnest(
        ${nodes.map(({ name }) => name)}::text[], ${nodes.map(({ port }) => port)}::integer[], ${statements}::text[]
      ) WITH ORDINALITY AS node (name, port, statements, place)
    ), answer AS MATERIALIZED (
      SELECT * FROM pg_catalog.master_run_on_worker(
        ARRAY (SELECT name FROM node ORDER BY place), ARRAY (SELECT port FROM node ORDER BY place),
        ARRAY (
          SELECT format('CALL %s(%L, %L)', (
            SELECT format('%I.%I', n.nspname, p.proname)
            FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
            WHERE p.oid = pg_catalog.to_regprocedure('usage_on_shards(jsonb,text,jsonb)')
          ), statements, pg_catalog.current_setting('search_path'))
          FROM node ORDER BY place
        ), true
      )
    )
    SELECT json_build_object('success', success, 'result', result)::text AS answer
    FROM node JOIN answer ON node_name = name AND node_port = port
    ORDER BY place`
}
