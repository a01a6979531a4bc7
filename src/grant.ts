import { sqlState } from './database-error.ts'
import { InsufficientPrivilegeError, PrivilegeSkippedError } from './errors.ts'
import type { ConnectionPool } from './pool.ts'
import { privilegeStatements, type RoleDuties } from './privileges.ts'
