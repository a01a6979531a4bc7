import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** A port of 127.0.0.1 on which nobody listens at this moment. */
export async function freePort(): Promise<number> {
  for (;;) {
    // Not one that systems give to outgoing connections: those could take it while a server restarts.
    const port = randomInt(10_240, 32_768)
    const probe = createServer()
    try {
      await once(probe.listen(port, '127.0.0.1'), 'listening')
      return port
    } catch {
      // It is taken: try another one.
    } finally {
      probe.close()
    }
  }
}
