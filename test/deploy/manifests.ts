import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import ts from 'typescript'
import { parseAllDocuments } from 'yaml'
import { ROOT } from '../support/checkout.ts'

/** The folder of the manifests. */
export const KUBERNETES_FOLDER = path.join(ROOT, 'deploy/kubernetes')

/** An object of Kubernetes, as its file has it. What is inside is told by the published schema. */
export interface Manifest {
  file: string
  // biome-ignore lint/suspicious/noExplicitAny: the schema of its kind is checked by `schemaErrors` and `unknownFields`
  object: any
}

/** All objects of all files but the kustomization, in the order of their files. */
export function readManifests(): Manifest[] {
  return globSync('*.yaml', { cwd: KUBERNETES_FOLDER })
    .filter(file => file !== 'kustomization.yaml')
    .sort()
    .flatMap(file => readDocuments(file).map(object => ({ file, object })))
}

/** The documents of a file. An error of the syntax is thrown, a key that stands twice included. */
// biome-ignore lint/suspicious/noExplicitAny: see Manifest
export function readDocuments(file: string): any[] {
  const text = readFileSync(path.join(KUBERNETES_FOLDER, file), 'utf8')
  return [...parseAllDocuments(text)].map(document => {
    if (document.errors.length > 0) throw document.errors[0]
    return document.toJS()
  })
}

/** What the published schema of its kind says against an object, or null. It lets unknown fields pass. */
export async function schemaErrors({ object }: Manifest): Promise<string | null> {
  const models: Record<string, new (data: unknown) => { validate(): void }> = await import(moduleOf(object))
  const Model = models[object.kind]
  if (Model === undefined) return `there is no kind ${object.kind} in ${object.apiVersion}`
  try {
    new Model(object).validate()
    return null
  } catch (error) {
    return (error as Error).message
  }
}

/**
 * What the types of the published schemas say against objects. Unlike the schemas, they refuse fields that they do not
 * know. Each object becomes a literal of a program that only the compiler sees.
 */
export function typeErrors(manifests: readonly Manifest[]): string[] {
  const name = path.join(ROOT, 'test/deploy/all-manifests.ts')
  const text = manifests
    .map(
      ({ object }, index) =>
        `import type { I${object.kind} as Kind${index} } from '${moduleOf(object)}'\n` +
        `export const object${index}: Kind${index} = ${JSON.stringify(object)}\n`,
    )
    .join('')
  const options: ts.CompilerOptions = {
    strict: true,
    noEmit: true,
    skipLibCheck: true,
    types: [],
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.NodeNext,
  }
  const host = ts.createCompilerHost(options)
  const { getSourceFile, fileExists } = host
  host.fileExists = file => file === name || fileExists(file)
  host.getSourceFile = (file, ...rest) =>
    file === name ? ts.createSourceFile(file, text, rest[0]) : getSourceFile(file, ...rest)
  const program = ts.createProgram([name], options, host)
  return ts
    .getPreEmitDiagnostics(program)
    .map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'))
}

function moduleOf({ apiVersion }: { apiVersion: string }): string {
  return `kubernetes-models/${apiVersion}`
}
