import assert from 'node:assert/strict'
import { existsSync, globSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { COMMANDS } from '../../src/cli/commands/list.ts'
import { ROOT } from '../support/checkout.ts'
import { blocksOf, PAGES, proseOf, textOf } from './markdown.ts'

/* The pages are short, and everything that they point to exists. */

const LINK = /\[[^\]]*\]\(([^)\s]+)\)/g

test('the README has less than 100 lines and about 700 words', () => {
  const text = textOf('README.md')
  assert.ok(text.split('\n').length <= 100, `${text.split('\n').length - 1} lines`)
  const words = text.split(/\s+/).length
  assert.ok(words < 750, `${words} words`)
})

test('each page of the docs is at most two screens long', () => {
  const pages = PAGES.filter(page => page.startsWith('docs'))
  assert.ok(pages.length > 5)
  for (const page of pages) {
    const lines = textOf(page).split('\n').length
    assert.ok(lines <= 81, `${page} has ${lines - 1} lines`)
  }
})

test('every link of a page leads to a file and a heading that exist', () => {
  let links = 0
  for (const page of PAGES) {
    for (const [, target] of textOf(page).matchAll(LINK)) {
      if (/^[a-z]+:/.test(target!)) continue
      links++
      const [file, anchor] = target!.split('#') as [string, string?]
      const found = file === '' ? page : path.join(path.dirname(page), file)
      assert.ok(existsSync(path.join(ROOT, found)), `${page}: ${target} does not exist`)
      if (anchor) assert.ok(anchorsOf(found).includes(anchor), `${page}: ${found} has no heading #${anchor}`)
    }
  }
  assert.ok(links > 20, 'the links are read')
})

test('the README leads to every page of the docs', () => {
  const linked = [...textOf('README.md').matchAll(LINK)].map(([, target]) => target)
  for (const page of [...PAGES.filter(page => page.startsWith('docs')), 'docs/api.md']) {
    assert.ok(linked.includes(page), `README.md has no link to ${page}`)
  }
})

test('every file that a page names in code exists', () => {
  let named = 0
  for (const page of PAGES) {
    for (const [, file] of proseOf(page).matchAll(
      /`((?:src|test|docs|migrations|examples|dev|bench)\/[\w./-]*)`/g,
    )) {
      named++
      assert.ok(existsSync(path.join(ROOT, file!)), `${page}: ${file} does not exist`)
    }
  }
  assert.ok(named > 5, 'the names are read')
})

test('every block of code in the pages names its language, so that the tests find and run it', () => {
  for (const page of PAGES) {
    for (const { at, language } of blocksOf(page)) {
      assert.ok(['ts', 'sql', 'sh', 'mermaid'].includes(language), `${at}: a fence of "${language}"`)
    }
    const indented = proseOf(page).search(/\n\n {4}\S/)
    assert.equal(indented, -1, `${page}: indented code near ${proseOf(page).slice(indented, indented + 40)}`)
  }
})

test('every command and every option that a page names exists', async () => {
  const flags = new Map<string, string[]>()
  for (const { name, load } of COMMANDS) {
    flags.set(
      name,
      (await load()).options().map(({ long }) => long!),
    )
  }
  const all = new Set([...flags.values()].flat().concat('--help'))
  let named = 0
  for (const page of PAGES) {
    for (const [text, command] of textOf(page).matchAll(/\bworkspace-usage (\w+)[^`\n]*/g)) {
      if (!flags.has(command!)) continue
      named++
      for (const [flag] of text.replace(/\s#.*/, '').matchAll(/--[a-z-]+/g)) {
        assert.ok(flag === '--help' || flags.get(command!)!.includes(flag), `${page}: ${text}`)
      }
    }
    for (const [, code] of proseOf(page).matchAll(/`([^`\n]+)`/g)) {
      const [, command] = /^(?:npx )?workspace-usage (\w+)/.exec(code!) ?? []
      assert.ok(command === undefined || flags.has(command), `${page}: no command "${command}"`)
      const [flag] = /^--[a-z-]+/.exec(code!) ?? []
      assert.ok(flag === undefined || all.has(flag), `${page}: no option "${flag}"`)
    }
  }
  assert.ok(named > 20, 'the commands are read')
})

test('the worker logs the messages in docs/worker.md in the same words', () => {
  const sources = globSync(['src/worker/*.ts', 'src/database/*.ts'], { cwd: ROOT }).map(textOf).join('')
  const messages = [...textOf('docs/worker.md').matchAll(/^\| (?:debug|info|warn|error) \| `([^`]+)`/gm)]
  assert.ok(messages.length >= 8, 'the messages are read')
  for (const [, message] of messages) assert.ok(sources.includes(message!.replace(/ …$/, '')), message)
})

function anchorsOf(page: string): string[] {
  return [...textOf(page).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replaceAll(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}
