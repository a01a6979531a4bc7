/** The same values in an order by chance. */
export function shuffled<Value>(values: readonly Value[]): Value[] {
  return values
    .map(value => ({ value, order: Math.random() }))
    .sort((one, other) => one.order - other.order)
    .map(({ value }) => value)
}
