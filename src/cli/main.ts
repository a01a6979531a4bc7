#!/usr/bin/env node
import { refusesNode } from './node-version.ts'

// This is loaded only after the check, because an old Node can't parse it.
const start = async () =>
  await (await import('./program.ts')).run(process.argv.slice(2), process.env, process)
process.exit(refusesNode(process) ? 1 : await start())
