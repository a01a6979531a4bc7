import { writeFileSync } from 'node:fs'
import { registerHooks } from 'node:module'

/*
 * Preloaded (`node --import`) by a test that asks what a program loads: writes the addresses of all modules to the
 * file that the variable LOADED_MODULES names, as a JSON array, when the program ends.
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
