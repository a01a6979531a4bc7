import { readFileSync } from 'node:fs'
import path from 'node:path'
import { parse } from 'yaml'
import { ROOT } from '../support/checkout.ts'

/** What the tests read of a service of docker-compose.yml. */
export interface Service {
  image: string
  user?: string
  command?: string[]
  environment?: Record<string, string>
  ports?: string[]
  volumes?: string[]
  tmpfs?: string[]
  profiles?: string[]
  depends_on?: Record<string, { condition: string }>
  healthcheck?: { test: string[]; start_period?: string }
  network_mode?: string
  init?: boolean
  read_only?: boolean
  privileged?: boolean
  cap_drop?: string[]
  cap_add?: string[]
  security_opt?: string[]
}

/** docker-compose.yml as it is written. */
export const COMPOSE_TEXT = readFileSync(path.join(ROOT, 'docker-compose.yml'), 'utf8')

const COMPOSE = parse(COMPOSE_TEXT, { merge: true }) as {
  services: Record<string, Service>
  volumes: Record<string, unknown>
}

/** The services, with their anchors resolved. */
export const SERVICES = COMPOSE.services

/** The names of the named volumes. */
export const VOLUMES = Object.keys(COMPOSE.volumes)
