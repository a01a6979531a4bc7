import {
  type Application,
  type Comment,
  CommentTag,
  Converter,
  type ProjectReflection,
  ReflectionKind,
} from 'typedoc'

/*
 * Makes the page of the API shorter. The errors of a function become one list. Of an error class only the fields are
 * shown, because only this package makes such errors.
 */

/** typedoc calls this, see `typedoc.json`. */
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

/** Turns all tags `@throws {Type} When.` into one tag with a list. */
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
