import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { globSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { parse } from 'yaml'
import { COMMANDS } from '../../src/cli/commands/list.ts'
import { healthRoutes } from '../../src/http/health-routes.ts'
import { textOf } from '../docs/markdown.ts'
import { atEnd } from '../support/at-end.ts'
import { MANIFEST, ROOT } from '../support/checkout.ts'
import { runCommand } from '../support/command-line.ts'
import { createEmptyDatabase } from '../support/database.ts'
import { until } from '../support/poll.ts'
import { POSTGRES_15_MISSING, testServer15 } from '../support/postgres-15.ts'
import { createLoginRole } from '../support/roles.ts'
import { testServer } from '../support/test-server.ts'
import {
  KUBERNETES_FOLDER,
  type Manifest,
  readDocuments,
  readManifests,
  schemaErrors,
  typeErrors,
} from './manifests.ts'

/*
 * The manifests of Kubernetes are valid by its published schemas, careful, and fit the program.
 */

const MANIFESTS = readManifests()
const only = (kind: string) => {
  const found = MANIFESTS.filter(({ object }) => object.kind === kind)
  assert.equal(found.length, 1, kind)
  return found[0]!.object
}
const DEPLOYMENT = only('Deployment')
const JOB = only('Job')
const PODS = [DEPLOYMENT, JOB].map(({ spec }) => spec.template)
// biome-ignore lint/suspicious/noExplicitAny: the schemas are checked by the first tests
const containersOf = (pod: any): any[] => [...(pod.spec.initContainers ?? []), ...pod.spec.containers]
const CONTAINERS = PODS.flatMap(containersOf)
const WORKER = DEPLOYMENT.spec.template.spec.containers[0]
const WAITING = DEPLOYMENT.spec.template.spec.initContainers[0]

test('every manifest is valid by the published schema of its kind', async () => {
  assert.ok(MANIFESTS.length >= 7, 'the manifests are read')
  for (const manifest of MANIFESTS) assert.equal(await schemaErrors(manifest), null, manifest.file)
})

test('no manifest has a field that the published schemas do not know', () => {
  assert.deepEqual(typeErrors(MANIFESTS), [])
})

test('a wrong type, a missing field and an unknown field of a manifest are all found', async () => {
  const changed = (change: (container: Record<string, unknown>) => void): Manifest => {
    const object = structuredClone(DEPLOYMENT)
    change(object.spec.template.spec.containers[0])
    return { file: 'changed', object }
  }
  const wrongType = changed(container => {
    container.ports = [{ containerPort: '9464' }]
  })
  assert.match((await schemaErrors(wrongType)) ?? '', /containerPort must be integer/)
  const missing = changed(container => delete container.name)
  assert.match((await schemaErrors(missing)) ?? '', /must have required property name/)
  const unknown = changed(container => {
    container.livenesProbe = container.livenessProbe
  })
  assert.match(typeErrors([unknown]).join(), /"livenesProbe"' does not exist/)
  const unknownInside = changed(container => {
    container.securityContext = { readOnlyRootFileSystem: true }
  })
  assert.match(typeErrors([unknownInside]).join(), /"readOnlyRootFileSystem"' does not exist/)
})

test('kustomize takes every manifest, and the image has the version of the package', () => {
  const [{ resources, images, namespace }] = readDocuments('kustomization.yaml')
  const files = globSync('*.yaml', { cwd: KUBERNETES_FOLDER }).filter(file => file !== 'kustomization.yaml')
  assert.deepEqual([...resources].sort(), files.sort())
  assert.equal(only('Namespace').metadata.name, namespace)
  const [{ name, newTag }] = images
  assert.equal(newTag, MANIFEST.version)
  for (const { image } of CONTAINERS) assert.equal(image, `${name}:${MANIFEST.version}`)
})

test('no container may become root, write to its file system, or keep a capability', () => {
  assert.equal(CONTAINERS.length, 4)
  for (const { name, securityContext, resources } of CONTAINERS) {
    assert.deepEqual(
      securityContext,
      {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      },
      name,
    )
    assert.ok(resources.requests.cpu && resources.requests.memory && resources.limits.memory, name)
  }
  for (const { spec } of PODS) {
    assert.equal(spec.securityContext.runAsNonRoot, true)
    assert.equal(spec.securityContext.seccompProfile.type, 'RuntimeDefault')
    for (const field of ['hostNetwork', 'hostPID', 'hostIPC', 'volumes'])
      assert.equal(spec[field], undefined, field)
  }
  assert.equal(only('Namespace').metadata.labels['pod-security.kubernetes.io/enforce'], 'restricted')
})

test('the pods run as the account of the image', () => {
  const [, user, group] = /^USER (\d+):(\d+)$/m.exec(textOf('Dockerfile')) ?? []
  for (const { spec } of PODS) {
    assert.equal(spec.securityContext.runAsUser, Number(user))
    assert.equal(spec.securityContext.runAsGroup, Number(group))
  }
})

test('no pod gets a token of Kubernetes', () => {
  const account = only('ServiceAccount')
  assert.equal(account.automountServiceAccountToken, false)
  for (const { spec } of PODS) {
    assert.equal(spec.automountServiceAccountToken, false)
    assert.equal(spec.serviceAccountName, account.metadata.name)
  }
})

test('passwords come from secrets, and the workers do not get those of the owner', () => {
  const secretsOf = (pod: unknown) => [
    ...new Set(
      containersOf(pod).flatMap(({ env }) =>
        env.map((variable: { value?: string; valueFrom: { secretKeyRef: { name: string } } }) => {
          assert.equal(variable.value, undefined)
          return variable.valueFrom.secretKeyRef.name
        }),
      ),
    ),
  ]
  assert.deepEqual(secretsOf(DEPLOYMENT.spec.template), ['workspace-usage-worker'])
  assert.deepEqual(secretsOf(JOB.spec.template), ['workspace-usage-owner'])
  assert.ok(!MANIFESTS.some(({ object }) => object.kind === 'Secret'), 'no secret is committed')
})

test('two workers run apart, and a disruption leaves one of them', () => {
  const { replicas, template } = DEPLOYMENT.spec
  assert.equal(replicas, 2)
  const budget = only('PodDisruptionBudget').spec
  assert.equal(budget.minAvailable, 1)
  assert.equal(budget.unhealthyPodEvictionPolicy, 'AlwaysAllow')
  const [spread] = template.spec.topologySpreadConstraints
  assert.equal(spread.topologyKey, 'kubernetes.io/hostname')
  assert.ok(template.spec.terminationGracePeriodSeconds >= 20)
})

test('every selector finds the pods that it is meant for, and no others', () => {
  const isWorker = { 'app.kubernetes.io/name': 'workspace-usage', 'app.kubernetes.io/component': 'worker' }
  const labels = PODS.map(({ metadata }) => metadata.labels)
  const found = (selector: Record<string, string>) =>
    labels.filter(label => Object.entries(selector).every(([key, value]) => label[key] === value))
  const [worker] = labels
  const policies = MANIFESTS.filter(({ object }) => object.kind === 'NetworkPolicy').map(
    ({ object }) => object.spec,
  )
  for (const selector of [
    DEPLOYMENT.spec.selector,
    DEPLOYMENT.spec.template.spec.topologySpreadConstraints[0].labelSelector,
    only('PodDisruptionBudget').spec.selector,
    policies[1].podSelector,
  ]) {
    assert.deepEqual(found(selector.matchLabels), [worker])
    assert.deepEqual(selector.matchLabels, isWorker)
  }
  assert.deepEqual(found(policies[0].podSelector.matchLabels), labels)
})

test('the network lets names and PostgreSQL out, the metrics in, and nothing else', () => {
  const policies = MANIFESTS.filter(({ object }) => object.kind === 'NetworkPolicy').map(
    ({ object }) => object.spec,
  )
  const [all, metrics] = policies
  const ports = (rules: { ports: { port: unknown; protocol: string }[] }[]) =>
    rules.flatMap(rule => rule.ports.map(({ port, protocol }) => `${protocol} ${port}`))
  assert.deepEqual(all.policyTypes, ['Ingress', 'Egress'])
  assert.equal(all.ingress, undefined)
  assert.deepEqual(ports(all.egress), ['UDP 53', 'TCP 53', 'TCP 5432'])
  assert.deepEqual(metrics.policyTypes, ['Ingress'])
  assert.deepEqual(ports(metrics.ingress), ['TCP http'])
})

test('the port of the worker is the same in its arguments, its probes, its annotations and the scrape job', () => {
  const port = String(WORKER.args[WORKER.args.indexOf('--port') + 1])
  assert.deepEqual(WORKER.ports, [{ name: 'http', containerPort: Number(port) }])
  for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
    assert.equal(WORKER[probe].httpGet.port, 'http', probe)
  }
  const { annotations } = DEPLOYMENT.spec.template.metadata
  assert.equal(annotations['prometheus.io/port'], port)
  const { scrape_configs } = parse(textOf('deploy/prometheus/prometheus.yml'))
  assert.deepEqual(scrape_configs[0].static_configs, [{ targets: [`worker:${port}`] }])
})

test('the probes ask paths that the worker serves, and wait longer than its answer may take', async () => {
  const routes = healthRoutes({
    liveness: async () => ({ alive: true, reason: null }),
    verdict: async () => ({ ok: true, critical: false, problems: [] }),
  })
  assert.equal(WORKER.livenessProbe.httpGet.path, '/healthz')
  assert.equal(WORKER.readinessProbe.httpGet.path, '/readyz')
  const [, deadline] = /ANSWER_TIMEOUT_MS = ([\d_]+)/.exec(textOf('src/http/health-routes.ts'))!
  for (const { httpGet, timeoutSeconds } of [
    WORKER.startupProbe,
    WORKER.livenessProbe,
    WORKER.readinessProbe,
  ]) {
    assert.equal((await routes.request(httpGet.path)).status, 200, httpGet.path)
    assert.ok(timeoutSeconds * 1_000 > Number(deadline!.replaceAll('_', '')), httpGet.path)
  }
})

test('no worker is restarted during the first ten minutes of an outage of the database', () => {
  const { periodSeconds, failureThreshold } = WORKER.livenessProbe
  assert.ok(periodSeconds * failureThreshold >= 600)
})

test('every command and every option in the manifests exists', async () => {
  for (const { name, command, args } of CONTAINERS) {
    const words: string[] = command === undefined ? args : args[0].match(/main\.js ([^;]+)/)[1].split(' ')
    const listed = COMMANDS.find(({ name }) => name === words[0])
    assert.ok(listed, `${name}: no command ${words[0]}`)
    const known = (await listed.load()).options().map(({ long }) => long)
    for (const flag of words.filter(word => word.startsWith('-'))) {
      assert.ok(known.includes(flag), `${name}: ${words[0]} has no option ${flag}`)
    }
  }
})

test('the roles of the manifests are those of the compose file', () => {
  const grant = CONTAINERS.find(({ name }) => name === 'grant')
  assert.ok(textOf('docker-compose.yml').includes(`command: [${grant.args.join(', ')}]`))
})

test('a worker waits until its database is migrated, and until its role may flush', async () => {
  await waitsUntilItMayFlush(await testServer())
})

test('a worker waits until its database is migrated, and until its role may flush, on PostgreSQL 15', async t => {
  const server = await testServer15()
  if (server === null) return t.skip(POSTGRES_15_MISSING)
  await waitsUntilItMayFlush(server)
})

async function waitsUntilItMayFlush(server: string): Promise<void> {
  const role = await createLoginRole(server, 'waiting worker')
  const database = await createEmptyDatabase({ on: server })
  const owner = ['--database-url', database.connectionString]
  // The image has the compiled program, and a checkout has the source.
  const script = WAITING.args[0]
    .replace('dist/src/cli/main.js', 'src/cli/main.ts')
    .replace('sleep 3', 'sleep 0.2')
  assert.notEqual(script, WAITING.args[0])
  const waiting = spawn(WAITING.command[0], [...WAITING.command.slice(1), script], {
    cwd: ROOT,
    env: {
      PATH: `${path.dirname(process.execPath)}:${process.env.PATH}`,
      DATABASE_URL: role.connectionString(database),
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const ended = once(waiting, 'exit')
  atEnd(async () => {
    waiting.kill('SIGKILL')
    await ended
  })
  let said = ''
  waiting.stderr.setEncoding('utf8').on('data', text => {
    said += text
  })
  const saysAgain = async (pattern: RegExp) => {
    said = ''
    await until(`it says ${pattern}`, () => pattern.test(said), { timeoutMs: 20_000 })
    assert.equal(waiting.exitCode, null)
  }
  await saysAgain(/not migrated/i)
  assert.equal((await runCommand(['migrate', ...owner])).code, 0)
  await saysAgain(/permission|grant/i)
  assert.equal((await runCommand(['grant', '--worker', role.name, ...owner])).code, 0)
  assert.deepEqual(await ended, [0, null])
}
