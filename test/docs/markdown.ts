import { globSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { ROOT } from '../support/checkout.ts'

/** The pages that somebody has written, relative to the root. `docs/api.md` is generated. */
export const PAGES = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...globSync('docs/*.md', { cwd: ROOT })]
  .filter(page => page !== path.join('docs', 'api.md'))
  .sort()

/** A fenced block of a page. */
export interface Block {
  /** Page and line of its first line of code: what an editor opens. */
  at: string
  language: string
  code: string
  /** Why no test runs it: the text of a comment `<!-- not run: … -->` above the block. */
  notRun: string | undefined
}

export function textOf(page: string): string {
  return readFileSync(path.join(ROOT, page), 'utf8')
}

/** The fenced blocks of a page, in order. */
export function blocksOf(page: string): Block[] {
  const text = textOf(page)
  const fences = text.matchAll(/(?:<!-- not run: ([^\n]+) -->\n\n?)?^```(\w*)\n(.*?)^```$/gms)
  return [...fences].map(match => {
    const [whole, notRun, language, code] = match as unknown as [string, string?, string?, string?]
    const start = match.index + whole.indexOf('```')
    const line = text.slice(0, start).split('\n').length + 1
    return { at: `${page}:${line}`, language: language ?? '', code: code ?? '', notRun }
  })
}

/** The text of a page without its fenced blocks. */
export function proseOf(page: string): string {
  return textOf(page).replaceAll(/^```\w*\n.*?^```$/gms, '')
}
