import { withoutPasswords } from '../without-passwords.ts'

/** The base of every error of this package. `instanceof` tells them from errors of the database. */
export abstract class WorkspaceUsageError extends Error {
  override get name(): string {
    return this.constructor.name
  }
}

/** Loggers print the fields of an error, so they must hold no password either. */
export function shown(value: unknown): unknown {
  return typeof value === 'string' ? withoutPasswords(value) : value
}

/** A value as an error quotes it: without passwords, and at most 100 characters. */
export function quote(value: unknown): string {
  const text = shown(value)
  if (typeof text !== 'string') return String(text)
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
