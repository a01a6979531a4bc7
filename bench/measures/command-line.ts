import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { alternate, atMost, type Measure, row } from '../measure.ts'
import { builtProgram } from '../support/built.ts'
import { timed } from '../support/timing.ts'

const run = promisify(execFile)

/** How long a command takes from its start to its end, as a probe of a container or a person waits for it. */
export const commandLine: Measure = {
  name: 'command-line',
  title: 'The command `status`, as a whole process',
  async run({ million, scaled, progress }) {
    progress('building the package')
    const program = await builtProgram()
    const rounds = scaled(15, 3)
    const env = { ...process.env, DATABASE_URL: million }
    const seconds = async (args: readonly string[]) =>
      (await timed(() => run(process.execPath, args, { env }))) / 1_000
    progress(`${rounds} rounds`)
    const found = await alternate(
      rounds,
      { status: () => seconds([program, 'status']), node: () => seconds(['-e', '0']) },
      { warmUps: 1 },
    )
    return {
      rows: [
        row('workspace-usage status', 's', found.status),
        row('node -e 0', 's', found.node, 'what any program of Node takes'),
      ],
      limits: 'Node itself, then the connection and a few statements. The command loads only what it needs.',
      targets: [atMost('status, as a whole process', found.status.median, 0.25, 's')],
    }
  },
}
