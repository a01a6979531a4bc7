import { setTimeout as sleep } from 'node:timers/promises'
import type { ApplicationTask } from './application.ts'
import { startChild } from './child.ts'
import type { Cores } from './cores.ts'
import type { Drained, DrainTask } from './drainer.ts'
import type { Latencies } from './open-loop.ts'

/** The latencies of a load while nothing else happens. */
export async function idly(cores: Cores, load: ApplicationTask, seconds: number): Promise<Latencies> {
  const application = await startChild<Latencies>('application.ts', cores.application, load)
  application.start()
  await sleep(seconds * 1_000)
  application.stop()
  return await application.result
}

/** The latencies of a load during a drain, and what the drain took. The load begins and ends with the drain. */
export async function duringDrain(
  cores: Cores,
  load: ApplicationTask,
  drain: Omit<DrainTask, 'connectionString'>,
): Promise<Latencies & { drained: Drained }> {
  const { connectionString } = load
  const drainer = await startChild<Drained>('drainer.ts', cores.drainer, { connectionString, ...drain })
  const application = await startChild<Latencies>('application.ts', cores.application, load)
  application.start()
  drainer.start()
  const drained = await drainer.result
  application.stop()
  return { ...(await application.result), drained }
}
