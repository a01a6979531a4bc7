import type { Terminal } from '../terminal.ts'

/** A progress bar, or nothing if nobody would see it. */
export interface Progress {
  update(value: number): void
  stop(): void
}

/** Shows nothing. */
export const NO_PROGRESS: Progress = { update() {}, stop() {} }

/**
 * Starts a progress bar on standard error, if that is a terminal. Otherwise the library is not even loaded.
 *
 * @param total The value at the end, or 0 if it is not known.
 */
export async function startProgress({ stderr }: Terminal, format: string, total = 0): Promise<Progress> {
  if (!stderr.isTTY) return NO_PROGRESS
  const { SingleBar } = (await import('cli-progress')).default
  const bar = new SingleBar({ format, hideCursor: true, stream: stderr as NodeJS.WritableStream })
  bar.start(total, 0)
  return { update: value => bar.update(value), stop: () => bar.stop() }
}
