/** Writes test/schema.sql anew, from a database that the migrations have made: `npm run test:update-schema`. */

import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { createTestDatabase } from '../support/database.ts'
import { schemaDump } from '../support/schema-dump.ts'

const { pool } = await createTestDatabase()
writeFileSync(path.join(import.meta.dirname, '../schema.sql'), await schemaDump(pool))
