import { PROGRAMS_VARIABLE } from './settings.ts'

/** The version that this run tests, as an option of a server. Default: the embedded one. */
export function programsOfRun(): { binDirectory?: string } {
  const binDirectory = process.env[PROGRAMS_VARIABLE]
  return binDirectory ? { binDirectory } : {}
}
