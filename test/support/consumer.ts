import { cpSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { atEnd } from './at-end.ts'
import { MANIFEST, ROOT } from './checkout.ts'

/**
 * An empty project that has this package installed, and returns its directory. The package is the sources, not what is
 * built from them: each of its exports leads to the file that it is built from.
 */
export function createConsumer(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'workspace-usage-docs-'))
  atEnd(() => rmSync(directory, { recursive: true, force: true }))
  const modules = path.join(directory, 'node_modules')
  mkdirSync(modules)
  for (const name of readdirSync(path.join(ROOT, 'node_modules')).filter(name => !name.startsWith('.'))) {
    symlinkSync(path.join(ROOT, 'node_modules', name), path.join(modules, name), 'junction')
  }
  const self = path.join(modules, MANIFEST.name)
  mkdirSync(self)
  symlinkSync(path.join(ROOT, 'src'), path.join(self, 'src'), 'junction')
  writeJson(path.join(self, 'package.json'), {
    name: MANIFEST.name,
    type: 'module',
    exports: sourceExports(),
  })
  writeJson(path.join(directory, 'package.json'), { private: true, type: 'module' })
  writeJson(path.join(directory, 'tsconfig.json'), {
    extends: path.join(ROOT, 'tsconfig.json'),
    compilerOptions: { rootDir: '/' },
    include: ['*.ts'],
  })
  return directory
}

/** Copies the examples into a new project that has this package installed, and returns its directory. */
export function createConsumerOfExamples(): string {
  const directory = createConsumer()
  cpSync(path.join(ROOT, 'examples'), directory, { recursive: true })
  return directory
}

function sourceExports(): Record<string, string> {
  const built = Object.entries(MANIFEST.exports).flatMap(([name, target]) =>
    typeof target === 'string' ? [] : [[name, target.default] as const],
  )
  return Object.fromEntries(
    built.map(([name, file]) => [name, file.replace('./dist/', './').replace(/\.js$/, '.ts')]),
  )
}

function writeJson(file: string, value: unknown): void {
  writeFileSync(file, JSON.stringify(value))
}
