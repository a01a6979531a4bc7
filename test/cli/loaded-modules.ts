import { writeFileSync } from 'node:fs'
import { registerHooks } from 'node:module'

/*
 * A test that asks what a program loads preloads this file (`node --import`). When the program ends, it writes the
 * addresses of all modules, as a JSON array, to the file that the variable LOADED_MODULES names.
 */

const file = process.env.LOADED_MODULES
if (file === undefined) throw new Error('LOADED_MODULES names no file')
const loaded: string[] = []

registerHooks({
  load(url, context, nextLoad) {
    loaded.push(url)
    return nextLoad(url, context)
  },
})
process.once('exit', () => writeFileSync(file, JSON.stringify(loaded)))
