import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import { EmbeddedPostgresError, tail } from './embedded-postgres-error.ts'
import type { ServerFacts, SupervisorAnswer, SupervisorRequest } from './embedded-supervisor.ts'

/** A request, but for its number. */
export type SupervisorAction = WithoutId<SupervisorRequest>
type WithoutId<Request> = Request extends unknown ? Omit<Request, 'id'> : never

interface Waiting {
  resolve(facts: ServerFacts | null): void
  reject(error: EmbeddedPostgresError): void
}

/** Our end of the channel to a supervisor. It keeps this process alive only while a request is unanswered. */
export class Supervisor {
  readonly #child: ChildProcess
  readonly #ended: Promise<unknown>
  readonly #waiting = new Map<number, Waiting>()
  #lastId = 0
  #stderr = ''
  #failure: EmbeddedPostgresError | undefined
  #dismissal: Promise<void> | undefined

  constructor() {
    // Our options for Node (a debugger's port, say) are not for it.
    const { NODE_OPTIONS: _, ...env } = process.env
    this.#child = fork(fileURLToPath(import.meta.resolve('./embedded-supervisor.ts')), [], {
      cwd: '/',
      detached: true,
      env,
      execArgv: [],
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    })
    this.#ended = once(this.#child, 'close').then(
      ([code, signal]) => this.#fail(`its supervisor ended with ${signal ?? code}`),
      error => this.#fail(`its supervisor could not be started (${error.message})`),
    )
    this.#child.on('message', (answer: SupervisorAnswer) => this.#settle(answer))
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text))
    ;(this.#child.stderr as Socket | null)?.unref()
    this.#child.unref()
    this.#child.channel?.unref()
  }

  /** Has the supervisor do something, after all it was asked before. @throws EmbeddedPostgresError */
  async request(action: SupervisorAction): Promise<ServerFacts | null> {
    if (this.#failure !== undefined) throw this.#failure
    const id = ++this.#lastId
    this.#child.channel?.ref()
    this.#child.send({ ...action, id }, error => {
      if (error) this.#fail(`its supervisor is gone (${error.message})`)
    })
    return new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }))
  }

  /**
   * Has the supervisor remove its server and end. A second call waits for the first.
   * @throws EmbeddedPostgresError
   */
  dismiss(): Promise<void> {
    this.#dismissal ??= this.request({ action: 'remove' }).then(async () => {
      this.#child.ref()
      ;(this.#child.stderr as Socket | null)?.ref()
      await this.#ended
    })
    return this.#dismissal
  }

  #settle(answer: SupervisorAnswer): void {
    const waiting = this.#waiting.get(answer.id)
    this.#waiting.delete(answer.id)
    if (this.#waiting.size === 0) this.#child.channel?.unref()
    if ('failure' in answer) waiting?.reject(new EmbeddedPostgresError(answer.failure))
    else waiting?.resolve(answer.facts)
  }

  #fail(reason: string): void {
    this.#failure ??= new EmbeddedPostgresError({ step: 'supervise', reason, logTail: tail(this.#stderr) })
    for (const waiting of this.#waiting.values()) waiting.reject(this.#failure)
    this.#waiting.clear()
  }
}
