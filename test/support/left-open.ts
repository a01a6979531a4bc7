/*
 * Every test file runs in a process of its own, which imports this first. The limit of the test runner is one for each
 * test. A file whose tests have ended, and that left a connection or a server open, would never end. Here it does, and
 * says what is open.
 */

const LIMIT_MS = Number(process.env.TEST_FILE_LIMIT_MS)

setTimeout(() => {
  console.error(
    `a file that runs for ${LIMIT_MS / 1_000} s is ended; open: ${process.getActiveResourcesInfo().join(', ')}`,
  )
  process.exit(1)
}, LIMIT_MS).unref()
