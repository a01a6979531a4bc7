/*
 * Reads which metrics and labels an expression of PromQL names. It does not check the grammar: Prometheus does that,
 * where it is installed.
 */

/** A metric that an expression asks for. */
export interface Selector {
  metric: string
  /** The labels between its braces. */
  matchers: { label: string; operator: string; value: string }[]
  /** The labels that `by (…)` keeps of it. */
  grouping: string[]
}

const AGGREGATIONS = ['sum', 'min', 'max', 'avg', 'count', 'topk', 'bottomk', 'quantile', 'stddev', 'group']
const OPERATORS = ['and', 'or', 'unless', 'offset', 'bool']
const TOKEN =
  /\s+|"((?:[^"\\]|\\.)*)"|(\d+(?:\.\d+)?(?:[smhdwy]\b)?)|([a-zA-Z_:][\w:]*)|(=~|!~|!=|==|>=|<=|[-+*/%^()[\]{},=<>])/y

/** Reads the selectors of an expression. @throws Error for what it can't read */
export function selectorsOf(expression: string): Selector[] {
  const reader = new Reader(tokensOf(expression), expression)
  return reader.read([])
}

function tokensOf(expression: string): string[] {
  const tokens: string[] = []
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < expression.length) {
    const at = TOKEN.lastIndex
    const found = TOKEN.exec(expression)
    if (!found) throw new Error(`can not read "${expression.slice(at)}" of ${expression}`)
    if (found[0].trim() !== '') tokens.push(found[0])
  }
  return tokens
}

class Reader {
  readonly #tokens: string[]
  readonly #expression: string
  #next = 0

  constructor(tokens: string[], expression: string) {
    this.#tokens = tokens
    this.#expression = expression
  }

  /** Reads to the end, or to the parenthesis that closes what was opened before. */
  read(grouping: string[]): Selector[] {
    const found: Selector[] = []
    for (let token = this.#take(); token !== undefined && token !== ')'; token = this.#take()) {
      if (token === '(') found.push(...this.read(grouping))
      else if (AGGREGATIONS.includes(token)) found.push(...this.#aggregation(grouping))
      else if (/^[a-zA-Z_:]/.test(token) && !OPERATORS.includes(token)) {
        if (this.#peek() !== '(') found.push({ metric: token, matchers: this.#matchers(), grouping })
      }
    }
    return found
  }

  #aggregation(outer: string[]): Selector[] {
    if (this.#peek() === '(') {
      this.#take()
      return this.read([])
    }
    // What an outer aggregation keeps, the inner one must keep as well.
    this.#expect('by')
    const labels = this.#list()
    for (const label of outer) if (!labels.includes(label)) this.#fail(`the inner aggregation drops ${label}`)
    this.#expect('(')
    return this.read(labels)
  }

  #list(): string[] {
    this.#expect('(')
    const labels: string[] = []
    for (let token = this.#take(); token !== ')'; token = this.#take()) {
      if (token === undefined) this.#fail('a list has no end')
      else if (token !== ',') labels.push(token)
    }
    return labels
  }

  #matchers(): Selector['matchers'] {
    if (this.#peek() !== '{') return []
    this.#take()
    const matchers: Selector['matchers'] = []
    while (this.#peek() !== '}') {
      const [label, operator, value] = [this.#take(), this.#take(), this.#take()]
      if (!/^(?:=|!=|=~|!~)$/.test(operator ?? '')) this.#fail(`no matcher: ${label}${operator}`)
      matchers.push({ label: label!, operator: operator!, value: JSON.parse(value!) })
      if (this.#peek() === ',') this.#take()
    }
    this.#take()
    return matchers
  }

  #take(): string | undefined {
    return this.#tokens[this.#next++]
  }

  #peek(): string | undefined {
    return this.#tokens[this.#next]
  }

  #expect(token: string): void {
    const found = this.#take()
    if (found !== token) this.#fail(`found ${found} where ${token} is needed`)
  }

  #fail(reason: string): never {
    throw new Error(`${reason}: ${this.#expression}`)
  }
}
