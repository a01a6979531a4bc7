import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { createServer } from 'node:net'

/** A port of 127.0.0.1 on which nobody listens at this moment. */
export async function freePort(): Promise<number> {
  for (;;) {
    // Above this range are the ports of outgoing connections. One of those could take the port while a server restarts.
    const port = randomInt(10_240, 32_768)
    const probe = createServer()
    try {
      await once(probe.listen(port, '127.0.0.1'), 'listening')
      return port
    } catch {
      // The port is taken.
    } finally {
      probe.close()
    }
  }
}
