/**
 * Resolves with the reason why the demo ends: Ctrl-C or another signal, its output is not read any more, or the npm
 * that started it is gone. Half a second later, a second signal ends the process at once.
 */
export function endOfDemo(): Promise<string> {
  const { promise, resolve } = Promise.withResolvers<string>()
  let first = Number.POSITIVE_INFINITY
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.on(signal, () => {
      first = Math.min(first, performance.now())
      // Sooner it is the same Ctrl-C: the terminal tells it to us and to npm, and npm passes it on to us.
      if (performance.now() - first > 500) process.exit(130)
      resolve(signal)
    })
  }
  process.stdout.on('error', () => resolve('its output is not read any more'))
  // A killed npm tells nobody. Without npm, the demo may well outlive the shell that started it.
  if (process.env.npm_lifecycle_event === 'start') {
    const npm = process.ppid
    setInterval(() => process.ppid === npm || resolve('npm is gone'), 250).unref()
  }
  return promise
}
