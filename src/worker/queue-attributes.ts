import type { Attributes } from '@opentelemetry/api'
import { FLUSH_QUEUE } from './queue.ts'

/** Workers of the schema `public` need no name in metrics. Those of another schema are told apart by their queue. */
export function attributesOf(queue: string): Attributes {
  return queue === FLUSH_QUEUE ? {} : { 'messaging.destination.name': queue }
}
