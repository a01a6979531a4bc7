import {
  type Application,
  type Comment,
  CommentTag,
  Converter,
  type ProjectReflection,
  ReflectionKind,
} from 'typedoc'

/*
 * Makes the page of the API shorter, for a reader who calls functions and catches errors: what a function throws is one
 * list, and of an error only its fields are shown, for nobody but this package makes one.
 */

/** Called by typedoc, see `typedoc.json`. */
export function load(app: Application): void {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    groupErrors(project)
    for (const reflection of Object.values(project.reflections)) {
      if (reflection.comment) listThrows(reflection.comment)
    }
  })
}

function groupErrors(project: ProjectReflection): void {
  for (const error of project.getReflectionsByKind(ReflectionKind.Class)) {
    if (!error.name.endsWith('Error') || !error.isDeclaration()) continue
    error.comment?.blockTags.push(new CommentTag('@group', [{ kind: 'text', text: 'Errors' }]))
    for (const child of [...(error.children ?? [])]) {
      if (child.kind === ReflectionKind.Constructor || child.name === 'name') project.removeReflection(child)
    }
  }
}

/** `@throws {Type} When.`, any number of them, as one tag with a list. */
function listThrows(comment: Comment): void {
  const tags = comment.getTags('@throws')
  if (tags.length === 0) return
  comment.removeTags('@throws')
  const items = tags.flatMap(({ typeAnnotation, content }) => {
    const type = typeAnnotation?.replace(/^\{(.*)\}$/, '`$1`: ') ?? ''
    return [{ kind: 'text' as const, text: `\n- ${type}` }, ...content]
  })
  comment.blockTags.push(new CommentTag('@throws', items))
}
