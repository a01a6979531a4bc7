/** The same values in random order. */
export function shuffled<Value>(values: readonly Value[]): Value[] {
  return values
    .map(value => ({ value, order: Math.random() }))
    .sort((one, other) => one.order - other.order)
    .map(({ value }) => value)
}
