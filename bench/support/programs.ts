import { accessSync, constants } from 'node:fs'
import path from 'node:path'
import type { Program } from '../measure.ts'

/** Where a program lies on PATH. Undefined if it does not. */
export function findProgram(name: Program): string | undefined {
  return (process.env.PATH ?? '')
    .split(path.delimiter)
    .filter(Boolean)
    .map(directory => path.join(directory, name))
    .find(isExecutable)
}

/** The words for a program that is not there. */
export function missing(name: Program): string {
  const remedy = { pgbench: 'the client programs of PostgreSQL', 'redis-server': 'Redis' }
  return `no ${name} on PATH: install ${remedy[name]} to measure it`
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK)
    return true
  } catch {
    return false
  }
}
