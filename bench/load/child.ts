import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { READY, START, STOP } from './parent.ts'

/** A process of the load. It is ready when `startChild` resolves. */
export interface Child<Result> {
  start(): void
  /** Asks for the end of a load that has no end of its own. */
  stop(): void
  /** What it found. Rejects if it fails. */
  result: Promise<Result>
}

/**
 * Starts a script of this folder in a process of its own.
 *
 * @param core The only core on which it runs. Undefined: any.
 * @param task What to do, as JSON.
 */
export async function startChild<Result>(
  script: 'application.ts' | 'drainer.ts',
  core: number | undefined,
  task: object,
): Promise<Child<Result>> {
  const file = fileURLToPath(new URL(script, import.meta.url))
  const pinned = core !== undefined && {
    execPath: 'taskset',
    execArgv: ['--cpu-list', String(core), process.execPath],
  }
  const child = fork(file, [JSON.stringify(task)], { ...pinned })
  const exit = once(child, 'exit')
  const next = async () => {
    const heard = once(child, 'message')
    heard.catch(() => {})
    const message = await Promise.race([heard.then(([said]) => said), exit.then(() => undefined)])
    if (message === undefined) throw new Error(`${script} ended with ${(await exit).join(' ')}`)
    return message
  }
  if ((await next()) !== READY) throw new Error(`${script} is not ready`)
  const result = next() as Promise<Result>
  result.catch(() => {})
  return { start: () => child.send(START), stop: () => child.send(STOP), result }
}
