import type { Command } from 'commander'

const OFF = /^(false|no|off|0)$/i

/**
 * Removes from the environment what commander would take for set: an empty variable, which is how compose and CI pass
 * on one that isn't, and for a flag also `false`, `no`, `off` or `0`, because there any value counts as given.
 */
export function removeUnsetVariables(command: Command): void {
  for (const option of command.options) {
    const value = option.envVar === undefined ? undefined : process.env[option.envVar]
    if (value === '' || (value !== undefined && option.isBoolean() && OFF.test(value))) {
      delete process.env[option.envVar!]
    }
  }
}
