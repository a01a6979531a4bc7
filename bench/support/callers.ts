/** Runs something for each id, from so many callers at once. Each caller takes its share, one after the other. */
export async function fromCallers(
  callers: number,
  ids: readonly string[],
  use: (id: string) => Promise<unknown>,
): Promise<void> {
  const share = Math.ceil(ids.length / callers)
  const caller = async (_: unknown, number: number) => {
    for (const id of ids.slice(number * share, (number + 1) * share)) await use(id)
  }
  await Promise.all(Array.from({ length: callers }, caller))
}

/** Runs something for each slice of so many ids, one after the other. */
export async function inSlices(
  size: number,
  ids: readonly string[],
  use: (ids: string[]) => Promise<unknown>,
): Promise<void> {
  for (let at = 0; at < ids.length; at += size) await use(ids.slice(at, at + size))
}
