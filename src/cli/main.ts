#!/usr/bin/env node
import { refusesNode } from './node-version.ts'

// Loaded after the check only: an old Node can't even parse it.
const start = async () =>
  await (await import('./program.ts')).run(process.argv.slice(2), process.env, process)
process.exit(refusesNode(process) ? 1 : await start())
