import assert from 'node:assert/strict'

/** Asserts that a text is XML: each element is closed in order, and no bare `<` or `&` is in the text or a value. */
export function assertWellFormed(xml: string): void {
  const open: string[] = []
  const rest = xml
    .replaceAll(/<!\[CDATA\[.*?\]\]>/gs, '')
    .replaceAll(/<(\/?)([a-zA-Z][\w:-]*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g, (...match) => {
      const [, end, name, attributes, closed] = match as unknown as string[]
      assertNoBareAmpersand(attributes!)
      if (end) assert.equal(open.pop(), name, `</${name}> closes another element`)
      else if (!closed) open.push(name!)
      return ''
    })
  assert.deepEqual(open, [], 'each element is closed')
  assert.doesNotMatch(rest, /[<>]/)
  assertNoBareAmpersand(rest)
}

function assertNoBareAmpersand(text: string): void {
  assert.doesNotMatch(text, /&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[\da-f]+);)/i)
}
