import { execFileSync } from 'node:child_process'
import { chownSync, closeSync, mkdtempSync, openSync, rmdirSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { serverAccount } from '../../dev/postgres/server-account.ts'
import { atEnd } from './at-end.ts'

/** A file system of a few megabytes, which an embedded server can write to. */
export interface SmallDisk {
  /** An absolute path. */
  readonly path: string
  /** Takes all the space that is left. */
  fill(): void
  /** Gives it back. */
  free(): void
}

/**
 * Mounts it in memory. It is gone at the file's end. Start it before the server, because it can't end while the server
 * uses it.
 *
 * @returns Why not, in words, if this machine can't: only root may mount, and many containers may not.
 */
export async function mountSmallDisk(megabytes: number): Promise<SmallDisk | string> {
  const directory = mkdtempSync(path.join(tmpdir(), 'workspace-usage-small-disk-'))
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0755`, 'tmpfs', directory], {
      stdio: 'pipe',
    })
  } catch (error) {
    rmdirSync(directory)
    return `no small file system can be mounted here: ${(error as Error).message.trim()}`
  }
  atEnd(() => {
    execFileSync('umount', [directory])
    rmdirSync(directory)
  })
  const { uid, gid } = await serverAccount()
  chownSync(directory, uid, gid)
  const ballast = path.join(directory, 'ballast')
  return {
    path: directory,
    fill: () => writeUntilFull(ballast),
    free: () => rmSync(ballast),
  }
}

function writeUntilFull(file: string): void {
  const descriptor = openSync(file, 'a')
  try {
    for (;;) writeSync(descriptor, Buffer.alloc(4_096))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
  } finally {
    closeSync(descriptor)
  }
}
