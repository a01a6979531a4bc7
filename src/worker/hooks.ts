import type { Logger } from '../logger.ts'
import type { FlushHooks } from './events.ts'

/** Calls the hooks of the host. What they do changes nothing for the worker. */
export class Hooks {
  readonly #hooks: FlushHooks
  readonly #logger: Logger

  constructor(hooks: FlushHooks, logger: Logger) {
    this.#hooks = hooks
    this.#logger = logger
  }

  /** Calls a hook if there is one, and does not wait for it. Never throws. */
  call<Name extends keyof FlushHooks>(hook: Name, event: Parameters<NonNullable<FlushHooks[Name]>>[0]): void {
    const run = this.#hooks[hook] as ((event: object) => unknown) | undefined
    if (run === undefined) return
    const running = (async () => await run(event))()
    running.catch(error => this.#logger.error({ err: error, hook }, 'a hook failed; the worker goes on'))
  }
}
