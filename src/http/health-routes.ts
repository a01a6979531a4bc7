import { type Context, Hono } from 'hono'
import { unavailable } from '../activity/health.ts'
import type { Problem, Severity } from '../activity/problem.ts'
import { answerWithin } from '../database/deadline.ts'
import type { Liveness } from '../worker/liveness.ts'

/** How long an answer may take, in ms. The verdict itself ends within 5 seconds. Probes often give up after ten. */
const ANSWER_TIMEOUT_MS = 7_000

const SEVERITIES: readonly string[] = ['critical', 'warning'] satisfies Severity[]

/** What the routes need of the verdict. */
export interface Verdict {
  /** Whether there is no problem at all. */
  ok: boolean
  /** Whether a problem is critical. */
  critical: boolean
  problems: readonly Problem[]
}

/** What the routes ask. */
export interface HealthSources {
  /** Of this process. */
  liveness(): Promise<Liveness>
  /** Of the whole system. */
  verdict(): Promise<Verdict>
}

/** `/healthz` asks this process, so a probe of it restarts what hangs. `/readyz` asks for the verdict. */
export function healthRoutes({ liveness, verdict }: HealthSources): Hono {
  const askVerdict = shared(() => inTime(verdict, noVerdict))
  const askLiveness = shared(() => inTime(liveness, late => ({ alive: false, reason: late.message })))
  return new Hono()
    .get('/healthz', async context => {
      const answer = await askLiveness()
      return context.json(answer, answer.alive ? 200 : 503)
    })
    .get('/readyz', async context => {
      const fault = faultOf(context)
      if (fault !== undefined) return context.json({ error: fault }, 400)
      const answer = await askVerdict()
      const fails = context.req.query('severity') === 'warning' ? !answer.ok : answer.critical
      return context.json(answer, fails ? 503 : 200)
    })
}

/** A misspelt parameter would ask less than was meant. */
function faultOf({ req }: Context): string | undefined {
  for (const [name, values] of Object.entries(req.queries())) {
    if (name !== 'severity') return `no such parameter: ${JSON.stringify(name)}; allowed: severity.`
    const wrong = values.find(value => !SEVERITIES.includes(value))
    if (wrong !== undefined) return `severity is ${JSON.stringify(wrong)}; allowed: ${SEVERITIES.join(', ')}.`
    if (values.length > 1) return 'severity is given twice; allowed: once.'
  }
  return undefined
}

async function inTime<T>(ask: () => Promise<T>, otherwise: (error: Error) => T): Promise<T> {
  try {
    return await answerWithin(ANSWER_TIMEOUT_MS, ask, () => {})
  } catch (error) {
    return otherwise(error as Error)
  }
}

function noVerdict(error: Error): Verdict {
  return { ok: false, critical: true, problems: [unavailable(error)] }
}

/** Requests that come while an answer is on its way get the same one. So no number of them burdens the database. */
function shared<T>(ask: () => Promise<T>): () => Promise<T> {
  let underWay: Promise<T> | undefined
  return () => {
    underWay ??= ask().finally(() => {
      underWay = undefined
    })
    return underWay
  }
}
