interface ErrorEmitter {
  on(event: 'error', listener: (error: unknown) => void): unknown
  removeListener(event: 'error', listener: (error: unknown) => void): unknown
}

/**
 * Listens for the errors of idle connections. Without a listener they end the process.
 *
 * @param db A pool or client. One that reports no such errors, such as a Kysely instance, is left alone.
 * @returns Stops listening.
 */
export function listenForErrors(db: object, listener: (error: unknown) => void): () => void {
  if (!emitsErrors(db)) return () => {}
  db.on('error', listener)
  return () => db.removeListener('error', listener)
}

function emitsErrors(db: object): db is ErrorEmitter {
  return 'on' in db && typeof db.on === 'function' && 'removeListener' in db
}
