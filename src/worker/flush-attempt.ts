import {
  type Context,
  context,
  ROOT_CONTEXT,
  type Span,
  SpanKind,
  SpanStatusCode,
  trace,
} from '@opentelemetry/api'
import { errorType } from '../database/error-type.ts'
import type { FlushResult } from '../flush/flush.ts'
import { SCOPE, safely } from './telemetry.ts'

/**
 * One run of a flush job, and its span. Until the host registers an SDK of OpenTelemetry, the span is nothing.
 *
 * The span is a root. The worker's loop may have been started within a span of the host, which ended long ago.
 */
export class FlushAttempt {
  readonly jobId: string
  readonly #started = performance.now()
  #span: Span | undefined
  #context: Context = ROOT_CONTEXT

  constructor(jobId: string, queue: string) {
    this.jobId = jobId
    const attributes = {
      'messaging.system': 'pg-boss',
      'messaging.operation.name': 'process',
      'messaging.operation.type': 'process',
      'messaging.destination.name': queue,
      'messaging.message.id': jobId,
    }
    const options = { kind: SpanKind.CONSUMER, root: true, attributes }
    safely(() => {
      this.#span = trace.getTracer(SCOPE).startSpan('workspace_usage.flush', options, ROOT_CONTEXT)
      this.#context = trace.setSpan(ROOT_CONTEXT, this.#span)
    })
  }

  /** Runs something so that the spans of the host's instrumentation, such as that of `pg`, stand below this one. */
  within<T>(run: () => T): T {
    return context.with(this.#context, run)
  }

  /** Milliseconds since its start. */
  get elapsedMs(): number {
    return performance.now() - this.#started
  }

  /** It has committed. */
  committed({
    emptied,
    reset,
    full,
    refusals: _,
    bySource: __,
    shardsLeft = [],
    ...counts
  }: FlushResult): void {
    this.#end(span => {
      for (const [name, count] of Object.entries(counts))
        span.setAttribute(`workspace_usage.flush.${name}`, count)
      span.setAttributes({ 'workspace_usage.flush.full': full, 'workspace_usage.flush.emptied': emptied })
      if (shardsLeft.length > 0) {
        const shards = shardsLeft.reduce((sum, left) => sum + left.shards, 0)
        span.setAttribute('workspace_usage.flush.shards_left', shards)
      }
      if (reset) span.setAttribute('workspace_usage.flush.reset', reset.reason)
    })
  }

  /** Nothing of it has committed. */
  failed(error: unknown): void {
    const message = error instanceof Error ? error.message : String(error)
    this.#end(span => {
      span.setAttribute('error.type', errorType(error))
      span.recordException(error instanceof Error ? error : message)
      span.setStatus({ code: SpanStatusCode.ERROR, message })
    })
  }

  #end(describe: (span: Span) => void): void {
    const span = this.#span
    if (!span) return
    safely(() => describe(span))
    safely(() => span.end())
  }
}
