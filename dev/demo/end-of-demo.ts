/**
 * Resolves with the reason why the demo ends: Ctrl-C or another signal, nobody reads its output any more, or the npm
 * that started it is gone. A second signal, at least half a second after the first, ends the process at once.
 */
export function endOfDemo(): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  let first = Number.POSITIVE_INFINITY
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      first = Math.min(first, performance.now())
      // An earlier one is the same Ctrl-C. The terminal sends it to us and to npm, and npm sends it to us again.
      if (performance.now() - first > 500) process.exit(130)
      resolve(signal)
    })
  }
  process.stdout.on('error', () => resolve('its output is not read any more'))
  // A killed npm sends no signal. Without npm the demo may outlive the shell that started it, so it is not watched
  // then.
  if (process.env.npm_lifecycle_event === 'start') {
    const npm = process.ppid
    setInterval(() => process.ppid === npm || resolve('npm is gone'), 250).unref()
  }
  return promise
}
