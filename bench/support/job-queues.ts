import { Logger, makeWorkerUtils } from 'graphile-worker'
import { PgBoss } from 'pg-boss'

/** A queue of jobs that holds a mark as a job, at most one for each workspace. */
export interface JobQueue {
  /** Adds one job. */
  add(id: string): Promise<unknown>
  /** Adds many jobs in one statement. */
  addAll(ids: readonly string[]): Promise<unknown>
  close(): Promise<unknown>
}

const NAME = 'bench-use'

/**
 * pg-boss with the policy `short`, which keeps one waiting job for each key. The key is all that a job says. Nothing is
 * fetched or maintained meanwhile.
 */
export async function pgBossQueue(connectionString: string): Promise<JobQueue> {
  const boss = new PgBoss({
    connectionString,
    max: 8,
    schema: 'bench_boss',
    application_name: 'bench',
    supervise: false,
    schedule: false,
  })
  boss.on('error', () => {})
  await boss.start()
  await boss.createQueue(NAME, { policy: 'short' })
  return {
    add: id => boss.send(NAME, null, { singletonKey: id }),
    addAll: ids =>
      boss.insert(
        NAME,
        ids.map(singletonKey => ({ singletonKey })),
      ),
    close: () => boss.stop({ graceful: false }),
  }
}

/** graphile-worker with a job key. A repeat leaves the time of the job as it was. */
export async function graphileQueue(connectionString: string): Promise<JobQueue> {
  const utils = await makeWorkerUtils({
    connectionString,
    maxPoolSize: 8,
    schema: 'bench_graphile',
    logger: new Logger(() => () => {}),
  })
  await utils.migrate()
  return {
    add: jobKey => utils.addJob(NAME, null, { jobKey, jobKeyMode: 'preserve_run_at' }),
    addAll: ids =>
      utils.addJobs(
        ids.map(jobKey => ({ identifier: NAME, payload: null, jobKey })),
        true,
      ),
    close: async () => utils.release(),
  }
}
