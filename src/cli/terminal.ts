import { constants } from 'node:os'
import type { Readable, Writable } from 'node:stream'
import { withoutPasswords } from '../without-passwords.ts'

/** What a command ends with: 0 success, 1 failure, 2 wrong usage, 128 and the number of the signal that ended it. */
export type ExitCode = number

/** The signals that end a command in order. */
export type Signal = 'SIGINT' | 'SIGTERM'

const SIGNALS: readonly Signal[] = ['SIGINT', 'SIGTERM']

/** An output, a terminal perhaps. */
export type Output = Writable & { isTTY?: boolean; columns?: number }

/** Where a command reads, writes and is told to end; `process` is one. */
export interface Streams {
  readonly stdin: Readable & { isTTY?: boolean }
  readonly stdout: Output
  readonly stderr: Output
  once(signal: Signal, listener: (signal: Signal) => void): unknown
  removeListener(signal: Signal, listener: (signal: Signal) => void): unknown
}

/** The streams of one run of the command line, with the rules that all commands have in common. */
export class Terminal {
  readonly stdin: Streams['stdin']
  readonly stdout: Output
  readonly stderr: Output
  /** Resolves when nobody reads standard output any more (`| head`). What is printed after that is dropped. */
  readonly unread: Promise<void>
  readonly #streams: Streams
  readonly #closings: (() => void)[] = []
  #failure: Error | undefined

  constructor(streams: Streams) {
    this.#streams = streams
    this.stdin = streams.stdin
    this.stdout = streams.stdout
    this.stderr = streams.stderr
    const { promise, resolve } = Promise.withResolvers<void>()
    this.unread = promise
    this.#listen(this.stdout, resolve)
    this.#listen(this.stderr, () => {})
  }

  /** Prints lines on standard output. */
  print(text: string): void {
    this.stdout.write(`${text}\n`)
  }

  /** Prints one JSON document on standard output, with times in ISO 8601. */
  printJson(value: unknown): void {
    this.print(JSON.stringify(value, null, 2))
  }

  /** Prints lines on standard error, without passwords. */
  tell(text: string): void {
    this.stderr.write(`${withoutPasswords(text)}\n`)
  }

  /** Resolves with the next SIGINT or SIGTERM. Until then the signal does not end the process by itself. */
  signal(): Promise<Signal> {
    const { promise, resolve } = Promise.withResolvers<Signal>()
    const stop = () => {
      for (const signal of SIGNALS) this.#streams.removeListener(signal, onSignal)
    }
    const onSignal = (signal: Signal) => {
      stop()
      resolve(signal)
    }
    for (const signal of SIGNALS) this.#streams.once(signal, onSignal)
    this.#closings.push(stop)
    return promise
  }

  /**
   * Waits until all output is written, and lets go of the streams.
   *
   * @throws What made an output fail, other than a reader that went away.
   */
  async close(): Promise<void> {
    await Promise.all([this.stdout, this.stderr].map(flushed))
    for (const close of this.#closings.splice(0)) close()
    if (this.#failure) throw this.#failure
  }

  #listen(output: Output, onUnread: () => void): void {
    const onError = (error: Error) => {
      if (isBrokenPipe(error)) onUnread()
      else this.#failure ??= error
    }
    output.on('error', onError)
    this.#closings.push(() => output.removeListener('error', onError))
  }
}

/** The exit code of a command that a signal ended, as shells count. */
export function exitCodeOf(signal: Signal): ExitCode {
  return 128 + constants.signals[signal]
}

/** Whether an output failed because its reader went away. */
export function isBrokenPipe(error: unknown): boolean {
  const { code } = Object(error) as NodeJS.ErrnoException
  // The latter for what is written after the first failure.
  return code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED' || code === 'ERR_STREAM_PREMATURE_CLOSE'
}

/** Resolves when all that was written to an output has left it, or failed. */
function flushed(output: Output): Promise<void> {
  return new Promise(resolve => {
    if (output.destroyed) resolve()
    else output.write('', () => resolve())
  })
}
