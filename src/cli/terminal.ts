import { constants, platform } from 'node:os'
import type { Readable, Writable } from 'node:stream'
import { withoutPasswords } from '../without-passwords.ts'
import type { Environment } from './options/variable-option.ts'

/** 0 success, 1 failure, 2 wrong usage. Ended by a signal: 128 plus the number of the signal. */
export type ExitCode = number

/** The signals that end a command in an orderly way. */
export type Signal = 'SIGINT' | 'SIGTERM'

const SIGNALS: readonly Signal[] = ['SIGINT', 'SIGTERM']

/** An output, which may be a terminal. */
export type Output = Writable & { isTTY?: boolean; columns?: number }

/** The input, the outputs and the signals of a command, such as `process`. */
export interface Streams {
  readonly stdin: Readable & { isTTY?: boolean }
  readonly stdout: Output
  readonly stderr: Output
  once(signal: Signal, listener: (signal: Signal) => void): unknown
  removeListener(signal: Signal, listener: (signal: Signal) => void): unknown
}

/** The streams of one run of the command line, with the rules that all commands share. */
export class Terminal {
  readonly stdin: Streams['stdin']
  readonly stdout: Output
  readonly stderr: Output
  /** Whether the locale is one of UTF-8, so that characters beyond ASCII are shown. */
  readonly utf8: boolean
  /** Resolves when nobody reads standard output any more (`| head`). Later output is dropped. */
  readonly unread: Promise<void>
  readonly #streams: Streams
  readonly #closings: (() => void)[] = []
  #failure: Error | undefined

  /** @param env The variables of the locale. */
  constructor(streams: Streams, env: Environment) {
    this.utf8 = isUtf8(env)
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

  /** Prints one JSON document on standard output. Times are in ISO 8601. */
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
   * @throws The error of an output. A reader that went away is not an error.
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

/** The first variable that is set wins, as in C. A terminal of Windows has no locale, and shows UTF-8. */
function isUtf8({ LC_ALL, LC_CTYPE, LANG }: Environment): boolean {
  const locale = LC_ALL || LC_CTYPE || LANG
  return locale ? /utf-?8/i.test(locale) : platform() === 'win32'
}

/** The exit code of a command that a signal ended, as shells define it. */
export function exitCodeOf(signal: Signal): ExitCode {
  return 128 + constants.signals[signal]
}

/** Whether an output failed because its reader went away. */
export function isBrokenPipe(error: unknown): boolean {
  const { code } = Object(error) as NodeJS.ErrnoException
  // Node reports the last two for what is written after the first failure.
  return code === 'EPIPE' || code === 'ERR_STREAM_DESTROYED' || code === 'ERR_STREAM_PREMATURE_CLOSE'
}

/** Resolves when everything that was written to an output has left it or has failed. */
function flushed(output: Output): Promise<void> {
  return new Promise(resolve => {
    if (output.destroyed) resolve()
    else output.write('', () => resolve())
  })
}
