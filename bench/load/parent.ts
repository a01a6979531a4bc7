/** What a process of the load says and hears. See `child.ts`. */
export const READY = 'ready'
export const START = 'start'
export const STOP = 'stop'

/** Tells the parent that this process is ready. Resolves when the parent wants the load. */
export function started(): Promise<void> {
  return said(START, () => process.send!(READY))
}

/** Aborts when the parent has heard enough. */
export function stopped(): AbortSignal {
  const controller = new AbortController()
  void said(STOP).then(() => controller.abort())
  return controller.signal
}

/** Hands the result to the parent, and lets this process end. */
export function answer(result: object): void {
  process.send!(result, () => process.disconnect())
}

function said(word: string, then?: () => void): Promise<void> {
  return new Promise(resolve => {
    const hear = (message: unknown) => {
      if (message !== word) return
      process.off('message', hear)
      resolve()
    }
    process.on('message', hear)
    then?.()
  })
}
