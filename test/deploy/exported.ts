/** The series that a worker or a tracker exports: by metric, the labels of each series. */
export type Exported = Map<string, Record<string, string>[]>

/** Reads the text format of Prometheus. */
export function readExported(...texts: string[]): Exported {
  const exported: Exported = new Map()
  for (const line of texts.flatMap(text => text.split('\n'))) {
    const [, metric, labels = ''] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+/.exec(line) ?? []
    if (metric === undefined) continue
    const found = [...labels.matchAll(/([a-zA-Z_]\w*)=("(?:[^"\\]|\\.)*")/g)]
    const series = Object.fromEntries(found.map(([, label, value]) => [label!, JSON.parse(value!)]))
    exported.set(metric, [...(exported.get(metric) ?? []), series])
  }
  return exported
}
