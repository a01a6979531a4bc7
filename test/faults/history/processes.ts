import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import type { Message, Part } from './messages.ts'

/** One process of the check, with all that its role needs to be started again. */
interface Running {
  child: ChildProcess
  owner: string
  /** Resolves when it has ended, and everything that it said was heard. */
  ended: Promise<void>
}

/** What is heard of the processes. */
export interface Listener {
  hear(owner: string, message: Message): void
  ended(owner: string, at: number): void
}

type Place = Omit<Part, 'life'>

/** The processes of the check. One that is killed is started again. */
export class Processes {
  /** Processes that ended by themselves, or with an error. */
  failed: string[] = []
  readonly #listener: Listener
  readonly #running = new Map<string, Running>()
  readonly #lives = new Map<string, number>()
  #closing = false

  constructor(listener: Listener) {
    this.#listener = listener
  }

  /** Starts a process, and starts it again whenever it is killed. Resolves when it works for the first time. */
  async start(place: Place): Promise<void> {
    const name = `${place.role} ${place.number}`
    const life = this.#lives.get(name) ?? 0
    this.#lives.set(name, life + 1)
    const owner = `${name}, life ${life}`
    const child = fork(path.join(import.meta.dirname, 'child.ts'), [JSON.stringify({ ...place, life })], {
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    const ready = new Promise<void>(resolve => {
      child.on('message', (message: Message) => {
        if (message.type === 'ready') resolve()
        this.#listener.hear(owner, message)
      })
    })
    // After "disconnect" no message comes.
    const ended = Promise.all([once(child, 'exit'), once(child, 'disconnect')]).then(([[code, signal]]) => {
      this.#running.delete(name)
      this.#listener.ended(owner, Date.now())
      if (signal !== 'SIGKILL' && (code !== 0 || !this.#closing)) {
        this.failed.push(`${owner} ended with ${signal ?? code}`)
      }
      if (!this.#closing) void this.start(place)
    })
    this.#running.set(name, { child, owner, ended })
    await Promise.race([ready, ended])
  }

  /** Sends a signal to one of the processes of a role. @param victim from 0, below 1 */
  signal(role: Part['role'], victim: number, signal: NodeJS.Signals): ChildProcess | undefined {
    const children = this.#of([role])
    const hit = children[Math.floor(victim * children.length)]
    hit?.child.kill(signal)
    return hit?.child
  }

  /** From now on nobody is started again. */
  close(): void {
    this.#closing = true
  }

  /** Tells the processes of some roles to end, and waits. Those that do not end in time are killed and counted. */
  async stop(roles: Part['role'][], timeoutMs: number): Promise<void> {
    const stopping = this.#of(roles)
    for (const { child } of stopping) child.send('stop', () => {})
    const timer = setTimeout(() => {
      for (const { child, owner } of this.#of(roles)) {
        this.failed.push(`${owner} did not end within ${timeoutMs} ms`)
        child.kill('SIGKILL')
      }
    }, timeoutMs)
    await Promise.all(stopping.map(({ ended }) => ended))
    clearTimeout(timer)
  }

  /** Kills all at once. */
  kill(): void {
    this.close()
    for (const { child } of this.#running.values()) child.kill('SIGKILL')
  }

  #of(roles: Part['role'][]): Running[] {
    return [...this.#running]
      .filter(([name]) => roles.some(role => name.startsWith(role)))
      .sort(([one], [other]) => one.localeCompare(other))
      .map(([, running]) => running)
  }
}
