// Every error of this package. Import errors from here, so that each class exists once in a bundle.
export { WorkspaceUsageError } from './errors/base.ts'
export * from './errors/database.ts'
export * from './errors/http.ts'
export * from './errors/input.ts'
export * from './errors/installation.ts'
export * from './errors/marks.ts'
export * from './errors/migration.ts'
export * from './errors/worker.ts'
